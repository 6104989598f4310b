import type { Snapshot } from '#config'
import { type DeputyError, refuse } from '#errors'
import type { RevocationScope, Store } from '#foundation/store'
import { didYouMean, foldName } from '#foundation/text'
import type { NamedUser, UserDirectory } from '#identity/subject'

/** What an admin names in order to end it. */
interface Names {
  readonly tenant?: string
  readonly user?: string
  readonly server?: string
  readonly downstream?: string
  readonly provider?: string
}

/** Records that an order of an admin leaves behind say nothing about whether what it named exists. */
const ORDERS = [
  'revocation',
  'user.disable',
  'user.enable',
  'tenant.freeze',
  'tenant.thaw',
  'secret.set',
  'secret.remove',
] as const

/** How many of the last records are searched for names that are near. */
const SEARCHED = 5000
/** How many grants and leases are searched for ids that are near. */
const SEARCHED_IDS = 10_000

/** Holds the names in an admin's order to what exists (promise 4): an order for a name that is misspelt must not succeed. */
export interface NamedCheck {
  /**
   * @param force lets a user or an issuer pass of whom nothing is known
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
   * The id of a user who is named by it or by a name. A text that is an id is never taken for a name, which users may be
   * able to choose. @param force takes the text for an id, known or not
   */
  user(tenant: string, user: string, force: boolean): Promise<string>
  /** For what is only read: the text as an id where nothing has it for a name. @throws DeputyError `user_ambiguous` */
  filter<Filter extends { readonly tenant?: string; readonly user?: string }>(filter: Filter): Promise<Filter>
  /** Whether an audit record names the token; Deputy keeps no other list of them. @returns a hint where it does not */
  token(id: string): Promise<{ readonly known: boolean; readonly hint: string }>
}

/**
 * What is known is what the configuration names, and what the store and the audit log still know: a server whose file is
 * gone can be revoked.
 */
export const createNamedCheck = (deps: {
  readonly snapshot: () => Snapshot
  readonly store: Store
  readonly users: UserDirectory
}): NamedCheck => {
  const { snapshot, store } = deps

  const isRemembered = async (names: Names): Promise<boolean> => {
    if ((await store.grants.list(names, { limit: 1 })).length > 0) return true
    if (names.provider !== undefined) return false
    return (
      (await store.consents.list(names)).length > 0 ||
      (await store.leases.list(names)).length > 0 ||
      (await store.audit.query({ ...names, node: '*', otherThan: ORDERS }, { limit: 1, last: true })).length > 0
    )
  }

  const unknown = (kind: string, name: string, known: Iterable<string>): DeputyError =>
    refuse('name_unknown', { kind, name, hint: spaced(didYouMean(name, known)) })

  const assertTenant = async (tenant: string): Promise<void> => {
    if (snapshot().tenants.has(tenant) || (await isRemembered({ tenant }))) return
    if ((await store.secrets.list(tenant)).length > 0) return
    if ((await store.frozenTenants.list()).some((frozen) => frozen.tenant === tenant)) return
    throw unknown('tenant', tenant, snapshot().tenants.keys())
  }

  const usersOf = async (tenant: string): Promise<ReadonlySet<string>> => {
    const records = await store.audit.query({ tenant, node: '*', otherThan: ORDERS }, { limit: SEARCHED, last: true })
    const rows = [
      ...(await store.grants.list({ tenant }, { limit: SEARCHED_IDS })),
      ...(await store.consents.list({ tenant })),
      ...(await store.sessions.list()).filter((session) => session.tenant === tenant),
      ...(await store.disabledUsers.list()).filter((disabled) => disabled.tenant === tenant),
      ...records,
    ]
    return new Set(rows.map(({ user }) => user).filter((user) => user !== null))
  }

  /** @param meant users whose ids people take for this name, if one of another has it */
  const theOneNamed = async (
    name: string,
    tenant: string | undefined,
    meant: readonly NamedUser[] = [],
  ): Promise<NamedUser | undefined> => {
    const [one, ...others] = await deps.users.usersNamed(name, tenant)
    if (one === undefined) return undefined
    const found = [one, ...others, ...meant.filter(({ user }) => user !== one.user)]
    if (found.length === 1) return one
    const users = new Set(found.map((each) => `${each.user} of ${each.tenant}`))
    throw refuse('user_ambiguous', { name, users: [...users].join(', ') })
  }

  const idOf = async (tenant: string, user: string, force: boolean): Promise<string> => {
    await assertTenant(tenant)
    if (force || (await isRemembered({ tenant, user })) || (await deps.users.isUser(tenant, user))) return user
    const users = await usersOf(tenant)
    if (users.has(user)) return user
    const meant = [...users].filter((id) => foldName(id) === foldName(user)).map((id) => ({ tenant, user: id }))
    const named = await theOneNamed(user, tenant, meant)
    if (named === undefined) throw refuse('user_unknown', { user, tenant, hint: spaced(didYouMean(user, users)) })
    return named.user
  }

  const assertGrant = async (grant: string): Promise<void> => {
    if ((await store.grants.get(grant)) !== undefined || (await store.leases.list({ id: grant })).length > 0) return
    const revoked = (await store.revocations.list()).some(
      ({ scope }) => scope.kind === 'grant' && scope.grant === grant,
    )
    if (revoked) return
    const ids = [...(await store.grants.list({}, { limit: SEARCHED_IDS })), ...(await store.leases.list({}))]
    throw unknown(
      'grant or lease',
      grant,
      ids.map(({ id }) => id),
    )
  }

  const assertIssuer = async (issuer: string, force: boolean): Promise<void> => {
    const tenants = [...snapshot().tenants.values()]
    const known = new Set([
      ...tenants.flatMap(({ issuers, sign_in: signIn }) => [
        ...issuers.map((each) => each.issuer),
        ...(signIn === undefined ? [] : [signIn.issuer]),
      ]),
      ...(await store.sessions.list()).map((session) => session.issuer),
    ])
    if (force || known.has(issuer)) return
    throw refuse('issuer_unknown', { issuer, hint: spaced(didYouMean(issuer, known)) })
  }

  const assertClient = async (client: string, force: boolean): Promise<void> => {
    if (force || (await store.clientSessions.list({ client }, 1)).length > 0) return
    const revoked = (await store.revocations.list()).some(
      ({ scope }) => scope.kind === 'client' && scope.client === client,
    )
    const known = (await store.clientSessions.list({}, SEARCHED_IDS)).map((session) => session.client)
    if (!revoked) throw unknown('client', client, new Set(known))
  }

  const assertSession = async (session: string): Promise<void> => {
    if ((await store.clientSessions.list({ id: session }, 1)).length > 0) return
    const revoked = (await store.revocations.list()).some(
      ({ scope }) => scope.kind === 'session' && scope.session === session,
    )
    const known = (await store.clientSessions.list({}, SEARCHED_IDS)).map(({ id }) => id)
    if (!revoked) throw unknown('session', session, known)
  }

  const assertIn = async (
    kind: 'server' | 'downstream' | 'provider',
    name: string,
    known: ReadonlyMap<string, unknown>,
  ): Promise<void> => {
    if (!known.has(name) && !(await isRemembered({ [kind]: name }))) throw unknown(kind, name, known.keys())
  }

  return {
    tenant: assertTenant,
    user: idOf,

    async filter(filter) {
      const { tenant, user } = filter
      const of = tenant === undefined ? {} : { tenant }
      if (user === undefined || (await isRemembered({ ...of, user }))) return filter
      if (tenant !== undefined && (await deps.users.isUser(tenant, user))) return filter
      const named = await theOneNamed(user, tenant)
      return named === undefined ? filter : { ...filter, ...named }
    },

    configuredTenant(tenant) {
      if (!snapshot().tenants.has(tenant)) throw unknown('tenant', tenant, snapshot().tenants.keys())
    },

    async secret(tenant, name) {
      await assertTenant(tenant)
      const names = new Set((await store.secrets.list(tenant)).map((secret) => secret.name))
      if (!names.has(name)) throw unknown(`secret of ${tenant}`, name, names)
    },

    async scope(scope, force) {
      if ('tenant' in scope && scope.tenant !== undefined) await assertTenant(scope.tenant)
      const { servers, downstreams, providers } = snapshot()
      switch (scope.kind) {
        case 'user':
          return { ...scope, user: await idOf(scope.tenant, scope.user, force) }
        case 'server':
          await assertIn('server', scope.server, servers)
          break
        case 'downstream':
          await assertIn('downstream', scope.downstream, downstreams)
          break
        case 'provider':
          await assertIn('provider', scope.provider, providers)
          break
        case 'grant':
          await assertGrant(scope.grant)
          break
        case 'client':
          await assertClient(scope.client, force)
          break
        case 'session':
          await assertSession(scope.session)
          break
        case 'issuer':
          await assertIssuer(scope.issuer, force)
          break
        case 'tenant':
        case 'token':
        case 'everything':
      }
      return scope
    },

    async token(id) {
      const named = await store.audit.query({ node: '*', mentions: id, otherThan: ORDERS }, { limit: 50, last: true })
      const ids = new Set(named.flatMap(({ body }) => textsIn(JSON.parse(body))))
      return {
        known: ids.has(id),
        // The id of a token that an issuer signed begins with the issuer (`tokenIdOf`), and people copy the `jti` alone.
        hint: meantIn(id, ids),
      }
    },
  }
}

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
