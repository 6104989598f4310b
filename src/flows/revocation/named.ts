import { signInIssuer, type Snapshot } from '#config'
import { type DeputyError, refuse } from '#errors'
import type { RevocationScope, Store } from '#foundation/store'
import { didYouMean, foldName } from '#foundation/text'
import type { NamedUser, UserDirectory } from '#identity/subject'

/** The names in an admin's order. */
interface Names {
  readonly tenant?: string
  readonly user?: string
  readonly server?: string
  readonly downstream?: string
  readonly provider?: string
}

/** Audit records of orders: they do not prove that a name exists. */
const ORDERS = [
  'revocation',
  'user.disable',
  'user.enable',
  'tenant.freeze',
  'tenant.thaw',
  'secret.set',
  'secret.remove',
] as const

/** Audit records that are searched for similar names, the newest first. */
const SEARCHED_RECORDS = 5000
/** Grants and leases that are searched for similar ids. */
const SEARCHED_IDS = 10_000

/** Checks that the names in an admin's order exist (promise 4): an order for a misspelt name must not succeed. */
export interface NamedCheck {
  /**
   * @param force accepts a user or an issuer that Deputy does not know
   * @returns the scope, with a user by the id
   * @throws DeputyError `name_unknown`, `user_unknown`, `user_ambiguous`
   */
  scope(scope: RevocationScope, force: boolean): Promise<RevocationScope>
  tenant(tenant: string): Promise<void>
  /** A tenant that has a file. */
  configuredTenant(tenant: string): void
  /** A secret of the embedded backend. */
  secret(tenant: string, name: string): Promise<void>
  /**
   * The id of a user, given as an id or a name. An id always counts as an id, because users may be able to choose their names. @param force accepts the text as an id, known or not
   */
  user(tenant: string, user: string, force: boolean): Promise<string>
  /** For a query: the text is an id where no user has it as a name. @throws DeputyError `user_ambiguous` */
  filter<Filter extends { readonly tenant?: string; readonly user?: string }>(filter: Filter): Promise<Filter>
  /** Whether an audit record names the token; Deputy keeps no other list of them. @returns a hint where it does not */
  token(id: string): Promise<{ readonly known: boolean; readonly hint: string }>
}

export interface NamedCheckDependencies {
  readonly snapshot: () => Snapshot
  readonly store: Store
  readonly users: UserDirectory
}

/**
 * Known names are those of the configuration, and those that the store and the audit log still have: a server without a file
 * can be revoked.
 */
export const createNamedCheck = (deps: NamedCheckDependencies): NamedCheck => new KnownNames(deps)

class KnownNames implements NamedCheck {
  readonly #deps: NamedCheckDependencies

  constructor(deps: NamedCheckDependencies) {
    this.#deps = deps
  }

  async scope(scope: RevocationScope, force: boolean): Promise<RevocationScope> {
    if ('tenant' in scope && scope.tenant !== undefined) await this.tenant(scope.tenant)
    const { servers, downstreams, providers } = this.#deps.snapshot()
    switch (scope.kind) {
      case 'user':
        return { ...scope, user: await this.user(scope.tenant, scope.user, force) }
      case 'server':
        await this.#assertKnown('server', scope.server, servers)
        break
      case 'downstream':
        await this.#assertKnown('downstream', scope.downstream, downstreams)
        break
      case 'provider':
        await this.#assertKnown('provider', scope.provider, providers)
        break
      case 'grant':
        await this.#assertGrant(scope.grant)
        break
      case 'client':
        await this.#assertClient(scope.client, force)
        break
      case 'session':
        await this.#assertSession(scope.session)
        break
      case 'issuer':
        await this.#assertIssuer(scope.issuer, force)
        break
      case 'tenant':
      case 'token':
      case 'everything':
    }
    return scope
  }

  async tenant(tenant: string): Promise<void> {
    const { snapshot, store } = this.#deps
    if (snapshot().tenants.has(tenant) || (await this.#isRemembered({ tenant }))) return
    if ((await store.secrets.list(tenant)).length > 0) return
    if ((await store.frozenTenants.list()).some((frozen) => frozen.tenant === tenant)) return
    throw unknown('tenant', tenant, snapshot().tenants.keys())
  }

  configuredTenant(tenant: string): void {
    const { tenants } = this.#deps.snapshot()
    if (!tenants.has(tenant)) throw unknown('tenant', tenant, tenants.keys())
  }

  async secret(tenant: string, name: string): Promise<void> {
    await this.tenant(tenant)
    const names = new Set((await this.#deps.store.secrets.list(tenant)).map((secret) => secret.name))
    if (!names.has(name)) throw unknown(`secret of ${tenant}`, name, names)
  }

  async user(tenant: string, user: string, force: boolean): Promise<string> {
    await this.tenant(tenant)
    if (force || (await this.#isRemembered({ tenant, user })) || (await this.#deps.users.isUser(tenant, user)))
      return user
    const users = await this.#usersOf(tenant)
    if (users.has(user)) return user
    const meant = [...users].filter((id) => foldName(id) === foldName(user)).map((id) => ({ tenant, user: id }))
    const named = await this.#userNamed(user, tenant, meant)
    if (named === undefined) throw refuse('user_unknown', { user, tenant, hint: spaced(didYouMean(user, users)) })
    return named.user
  }

  async filter<Filter extends { readonly tenant?: string; readonly user?: string }>(filter: Filter): Promise<Filter> {
    const { tenant, user } = filter
    const of = tenant === undefined ? {} : { tenant }
    if (user === undefined || (await this.#isRemembered({ ...of, user }))) return filter
    if (tenant !== undefined && (await this.#deps.users.isUser(tenant, user))) return filter
    const named = await this.#userNamed(user, tenant)
    return named === undefined ? filter : { ...filter, ...named }
  }

  async token(id: string): Promise<{ readonly known: boolean; readonly hint: string }> {
    const { audit } = this.#deps.store
    const named = await audit.query({ node: '*', mentions: id, otherThan: ORDERS }, { limit: 50, last: true })
    const ids = new Set(named.flatMap(({ body }) => textsIn(JSON.parse(body))))
    return {
      known: ids.has(id),
      // The id of a token that an issuer signed begins with the issuer (`tokenIdOf`), and admins often copy only the `jti`.
      hint: meantIn(id, ids),
    }
  }

  async #isRemembered(names: Names): Promise<boolean> {
    const { store } = this.#deps
    if ((await store.grants.list(names, { limit: 1 })).length > 0) return true
    if (names.provider !== undefined) return false
    return (
      (await store.consents.list(names)).length > 0 ||
      (await store.leases.list(names)).length > 0 ||
      (await store.audit.query({ ...names, node: '*', otherThan: ORDERS }, { limit: 1, last: true })).length > 0
    )
  }

  async #usersOf(tenant: string): Promise<ReadonlySet<string>> {
    const { store } = this.#deps
    const rows = [
      ...(await store.grants.list({ tenant }, { limit: SEARCHED_IDS })),
      ...(await store.consents.list({ tenant })),
      ...(await store.sessions.list()).filter((session) => session.tenant === tenant),
      ...(await store.disabledUsers.list()).filter((disabled) => disabled.tenant === tenant),
      ...(await store.audit.query({ tenant, node: '*', otherThan: ORDERS }, { limit: SEARCHED_RECORDS, last: true })),
    ]
    return new Set(rows.map(({ user }) => user).filter((user) => user !== null))
  }

  /**
   * The user of a name. @param similar users whose ids read like the name
   * @throws DeputyError `user_ambiguous` where several users are meant
   */
  async #userNamed(
    name: string,
    tenant: string | undefined,
    similar: readonly NamedUser[] = [],
  ): Promise<NamedUser | undefined> {
    const [one, ...others] = await this.#deps.users.usersNamed(name, tenant)
    if (one === undefined) return undefined
    const found = [one, ...others, ...similar.filter(({ user }) => user !== one.user)]
    if (found.length === 1) return one
    const users = new Set(found.map((each) => `${each.user} of ${each.tenant}`))
    throw refuse('user_ambiguous', { name, users: [...users].join(', ') })
  }

  async #assertGrant(grant: string): Promise<void> {
    const { store } = this.#deps
    if ((await store.grants.get(grant)) !== undefined || (await store.leases.list({ id: grant })).length > 0) return
    const isRevoked = (await store.revocations.list()).some(
      ({ scope }) => scope.kind === 'grant' && scope.grant === grant,
    )
    if (isRevoked) return
    const known = [...(await store.grants.list({}, { limit: SEARCHED_IDS })), ...(await store.leases.list({}))]
    throw unknown(
      'grant or lease',
      grant,
      known.map(({ id }) => id),
    )
  }

  async #assertIssuer(issuer: string, force: boolean): Promise<void> {
    const { snapshot, store } = this.#deps
    const tenants = [...snapshot().tenants.values()]
    const known = new Set([
      ...tenants.flatMap((tenant) => [
        ...tenant.issuers.map((each) => each.issuer),
        ...[signInIssuer(tenant, snapshot().providers) ?? []].flat(),
      ]),
      ...(await store.sessions.list()).map((session) => session.issuer),
    ])
    if (force || known.has(issuer)) return
    throw refuse('issuer_unknown', { issuer, hint: spaced(didYouMean(issuer, known)) })
  }

  async #assertClient(client: string, force: boolean): Promise<void> {
    const { store } = this.#deps
    if (force || this.#deps.snapshot().clients.has(client)) return
    if ((await store.clientSessions.list({ client }, 1)).length > 0) return
    if ((await store.clients.find(client, 0)) !== undefined) return
    const isRevoked = (await store.revocations.list()).some(
      ({ scope }) => scope.kind === 'client' && scope.client === client,
    )
    if (isRevoked) return
    const known = (await store.clientSessions.list({}, SEARCHED_IDS)).map((session) => session.client)
    throw unknown('client', client, new Set(known))
  }

  async #assertSession(session: string): Promise<void> {
    const { store } = this.#deps
    if ((await store.clientSessions.list({ id: session }, 1)).length > 0) return
    const isRevoked = (await store.revocations.list()).some(
      ({ scope }) => scope.kind === 'session' && scope.session === session,
    )
    if (isRevoked) return
    const known = (await store.clientSessions.list({}, SEARCHED_IDS)).map(({ id }) => id)
    throw unknown('session', session, known)
  }

  async #assertKnown(
    kind: 'server' | 'downstream' | 'provider',
    name: string,
    configured: ReadonlyMap<string, unknown>,
  ): Promise<void> {
    if (!configured.has(name) && !(await this.#isRemembered({ [kind]: name })))
      throw unknown(kind, name, configured.keys())
  }
}

const unknown = (kind: string, name: string, known: Iterable<string>): DeputyError =>
  refuse('name_unknown', { kind, name, hint: spaced(didYouMean(name, known)) })

const meantIn = (id: string, ids: ReadonlySet<string>): string => {
  const whole = [...ids].find((text) => text.endsWith(`#${id}`))
  return whole === undefined ? '' : `Did you mean '${whole}'?`
}

const spaced = (hint: string): string => (hint === '' ? '' : ` ${hint}`)

/** Every text within a value. */
const textsIn = (value: unknown): string[] => {
  if (typeof value === 'string') return [value]
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(textsIn) : []
}
