/**
 * The one table of revocation scopes. What a kind of scope is called, what it covers, and what a revocation of it removes
 * stands here and nowhere else. A new kind is one row, its type in the store's records, and an option of `deputy revoke`.
 */
import { z } from 'zod'
import { signInIssuer, type Snapshot } from '#config'
import type {
  ClientSessionFilter,
  GrantFilter,
  GrantOwner,
  IdentityTokenFilter,
  LeaseFilter,
  RevocationScope,
  SessionFilter,
} from '#foundation/store'
import { agentsAmong, clientsAmong, clientSessionsAmong } from '#identity/subject'
import type { CredentialDependencies } from './credential-dependencies.ts'

type Kind = RevocationScope['kind']
type ScopeOf<K extends Kind> = Extract<RevocationScope, { kind: K }>

/** When a revocation may be forgotten (ms since the epoch); null: never. */
export interface Memory {
  readonly epoch: number
  /** Of a token: when it ends, where that is known. */
  readonly tokenExpiresAt: number | undefined
  /** How long the revocation of a grant is kept (ms). */
  readonly grantMemory: number
}

interface Member {
  /** Longest text in an order of an admin (characters). */
  readonly max: number
  readonly isOptional?: true
}

interface ScopeKind<K extends Kind> {
  /** Its members other than `kind`. */
  readonly members: Readonly<Record<string, Member>>
  /** Its name in sentences, without the tenant. */
  readonly named: (scope: ScopeOf<K>) => string
  /** The scopes of this kind that would cover what relies on this. */
  readonly covering: (dependsOn: CredentialDependencies) => readonly ScopeOf<K>[]
  /** Whether it covers by an id, whenever that was given; the others cover what was given before the revocation. */
  readonly byId: boolean
  /** The grants that it ends, as filters: what any of them covers. */
  readonly grants: (scope: ScopeOf<K>, snapshot: Snapshot) => readonly GrantFilter[]
  /** The leases that it ends. A lease has no provider, and its id stands where a grant's would. */
  readonly leases: (scope: ScopeOf<K>, snapshot: Snapshot) => readonly LeaseFilter[]
  /** Consents have no provider and no id: those of a grant or a provider are found by its grants. */
  readonly consentsOf: 'its grants' | 'its filters'
  /** The login sessions that it removes; those of an issuer are void by its revocation and need not be looked for. */
  readonly sessions: (scope: ScopeOf<K>) => SessionFilter | undefined
  /** The sign-ins at MCP clients that it removes; those of an issuer are void by its revocation. */
  readonly clientSessions: (scope: ScopeOf<K>) => ClientSessionFilter | undefined
  /** The identity tokens of sign-ins that it removes. */
  readonly identityTokens: (scope: ScopeOf<K>) => IdentityTokenFilter | undefined
  readonly forgetAt: (memory: Memory) => number | null
  /** The tenant whose key ends with it, and so everything that is sealed under it. */
  readonly destroysKeyOf: (scope: ScopeOf<K>) => string | undefined
}

/** A name that has to be that of something that exists: what else it may look like does not matter. */
const name: Member = { max: 256 }
const inTenant: { tenant: Member } = { tenant: { ...name, isOptional: true } }
/** A revocation outlives its token by this time (ms): clocks of nodes differ. */
const END_MARGIN_MS = 3_600_000

const within = ({ tenant }: { readonly tenant?: string }): { tenant?: string } =>
  tenant === undefined ? {} : { tenant }
/** Within the tenant of the reliance, and in all. */
const inAny = <Scope extends object>(
  scope: Scope,
  { tenant }: CredentialDependencies,
): (Scope & { tenant?: string })[] => [scope, { ...scope, tenant }]
/** Ids of tokens that others issued begin with the issuer: `https://idp.example#id` (`tokenIdOf`). */
const issuersOf = ({ tokens }: CredentialDependencies): string[] =>
  tokens.flatMap((token) => (token.includes('#') ? token.slice(0, token.indexOf('#')) : []))

/** What most kinds have in common. */
const plain = {
  byId: false,
  consentsOf: 'its filters',
  sessions: () => undefined,
  clientSessions: () => undefined,
  identityTokens: () => undefined,
  forgetAt: () => null,
  destroysKeyOf: () => undefined,
} as const
const same = <Scope>(filters: (scope: Scope) => readonly GrantFilter[]) => ({ grants: filters, leases: filters })

/** The tenants that an issuer's word counts in. */
const tenantsOf = (
  { issuer, tenant: only }: ScopeOf<'issuer'>,
  { tenants }: Pick<Snapshot, 'tenants'>,
  issuersOfTenant: (tenant: Parameters<Parameters<Snapshot['tenants']['forEach']>[0]>[0]) => readonly string[],
): { tenant: string }[] =>
  [...tenants.values()]
    .filter((each) => issuersOfTenant(each).includes(issuer) && (only === undefined || only === each.tenant))
    .map(({ tenant }) => ({ tenant }))

/** Consents for a client stand among those for services, under a name that no service can have. */
const clientConsentKey = (client: string): string => `client:${client}`

/** The place of a user's consent that a client may use a server. */
export const clientConsentOwner = ({
  tenant,
  user,
  server,
  client,
}: {
  readonly tenant: string
  readonly user: string
  readonly server: string
  readonly client: string
}): GrantOwner => ({ tenant, user, server, downstream: clientConsentKey(client) })

/** In the order in which the reason of a refusal is looked for. */
const kinds: { readonly [K in Kind]: ScopeKind<K> } = {
  everything: {
    ...plain,
    ...same(() => [{}]),
    members: {},
    named: () => 'everything',
    covering: () => [{ kind: 'everything' }],
    sessions: () => ({}),
    clientSessions: () => ({}),
    identityTokens: () => ({}),
  },
  tenant: {
    ...plain,
    ...same(({ tenant }: ScopeOf<'tenant'>) => [{ tenant }]),
    members: { tenant: name },
    named: ({ tenant }) => `tenant ${tenant}`,
    covering: ({ tenant }) => [{ kind: 'tenant', tenant }],
    sessions: ({ tenant }) => ({ tenant }),
    clientSessions: ({ tenant }) => ({ tenant }),
    identityTokens: ({ tenant }) => ({ tenant }),
    destroysKeyOf: ({ tenant }) => tenant,
  },
  issuer: {
    ...plain,
    members: { issuer: { max: 2048 }, ...inTenant },
    named: ({ issuer }) => `issuer ${issuer}`,
    covering: (dependsOn) =>
      issuersOf(dependsOn).flatMap((issuer) => inAny({ kind: 'issuer' as const, issuer }, dependsOn)),
    // A grant was given by who had signed in: where that was at this issuer, it rests on its word.
    grants: (scope, snapshot) =>
      tenantsOf(scope, snapshot, (tenant) => [signInIssuer(tenant, snapshot.providers) ?? []].flat()),
    // A caller with a lease may have come with a token of this issuer.
    leases: (scope, snapshot) => tenantsOf(scope, snapshot, ({ issuers }) => issuers.map(({ issuer }) => issuer)),
    identityTokens: (scope) => ({ issuer: scope.issuer, ...within(scope) }),
  },
  user: {
    ...plain,
    ...same(({ tenant, user }: ScopeOf<'user'>) => [{ tenant, user }]),
    members: { tenant: name, user: name },
    named: ({ user }) => `user ${user}`,
    covering: ({ tenant, user }) => (user === undefined ? [] : [{ kind: 'user', tenant, user }]),
    sessions: ({ tenant, user }) => ({ tenant, user }),
    clientSessions: ({ tenant, user }) => ({ tenant, user }),
    identityTokens: ({ tenant, user }) => ({ tenant, user }),
  },
  server: {
    ...plain,
    ...same((scope: ScopeOf<'server'>) => [{ server: scope.server, ...within(scope) }]),
    members: { server: name, ...inTenant },
    named: ({ server }) => `server ${server}`,
    covering: (dependsOn) => inAny({ kind: 'server' as const, server: dependsOn.server }, dependsOn),
    clientSessions: (scope) => ({ server: scope.server, ...within(scope) }),
  },
  downstream: {
    ...plain,
    ...same((scope: ScopeOf<'downstream'>) => [{ downstream: scope.downstream, ...within(scope) }]),
    members: { downstream: name, ...inTenant },
    named: ({ downstream }) => `downstream ${downstream}`,
    covering: (dependsOn) =>
      dependsOn.downstreams.flatMap((downstream) => inAny({ kind: 'downstream' as const, downstream }, dependsOn)),
  },
  provider: {
    ...plain,
    members: { provider: name, ...inTenant },
    named: ({ provider }) => `provider ${provider}`,
    covering: (dependsOn) =>
      dependsOn.provider === undefined
        ? []
        : inAny({ kind: 'provider' as const, provider: dependsOn.provider }, dependsOn),
    grants: (scope) => [{ provider: scope.provider, ...within(scope) }],
    leases: () => [],
    consentsOf: 'its grants',
  },
  grant: {
    ...plain,
    ...same(({ grant }: ScopeOf<'grant'>) => [{ id: grant }]),
    members: { grant: { max: 128 } },
    named: ({ grant }) => `grant ${grant}`,
    covering: ({ grant }) => (grant === undefined ? [] : [{ kind: 'grant', grant }]),
    byId: true,
    consentsOf: 'its grants',
    forgetAt: ({ epoch, grantMemory }) => epoch + grantMemory,
  },
  client: {
    ...plain,
    // No grant and no lease has such a downstream; the consents for the client have.
    grants: (scope) => [{ downstream: clientConsentKey(scope.client), ...within(scope) }],
    leases: () => [],
    members: { client: { max: 2048 }, ...inTenant },
    named: ({ client }) => `client ${client}`,
    covering: (dependsOn) =>
      [...clientsAmong(dependsOn.tokens), ...agentsAmong(dependsOn.tokens)].flatMap((client) =>
        inAny({ kind: 'client' as const, client }, dependsOn),
      ),
    clientSessions: (scope) => ({ client: scope.client, ...within(scope) }),
  },
  session: {
    ...plain,
    ...same(() => []),
    members: { session: { max: 128 } },
    named: ({ session }) => `session ${session}`,
    covering: ({ tokens }) => clientSessionsAmong(tokens).map((session) => ({ kind: 'session', session })),
    byId: true,
    clientSessions: ({ session }) => ({ id: session }),
    forgetAt: ({ epoch, grantMemory }) => epoch + grantMemory,
  },
  token: {
    ...plain,
    ...same(() => []),
    members: { token: name },
    named: () => 'this token',
    covering: ({ tokens }) => tokens.map((token) => ({ kind: 'token', token })),
    byId: true,
    // A token counts until its own end, however far that is: issuers hand out tokens of 90 days and more. What was
    // exchanged from it ends no later than it does.
    forgetAt: ({ epoch, tokenExpiresAt }) =>
      tokenExpiresAt === undefined ? null : Math.max(epoch, tokenExpiresAt) + END_MARGIN_MS,
  },
}
const inOrder = Object.values(kinds) as unknown as readonly ScopeKind<Kind>[]

/** The row of a scope; it takes that scope. */
export const kindOf = ({ kind }: RevocationScope): ScopeKind<Kind> => kinds[kind] as unknown as ScopeKind<Kind>

const shapeOf = (members: Readonly<Record<string, Member>>, text: (member: Member) => z.ZodString) =>
  Object.fromEntries(
    Object.entries(members).map(([each, member]) => [each, member.isOptional ? text(member).optional() : text(member)]),
  )

/** A scope in an order of an admin: exactly one of the forms, nothing else. */
export const scopeOrderSchema = z.union(
  Object.entries(kinds).map(([kind, { members }]) =>
    z.strictObject({ kind: z.literal(kind), ...shapeOf(members, ({ max }) => z.string().min(1).max(max)) }),
  ),
) as unknown as z.ZodType<RevocationScope>

/** A scope in a record: of any length, because names in security events are the issuer's. What a later version has added is left out. */
export const recordedScopeSchema = z.union(
  Object.entries(kinds).map(([kind, { members }]) =>
    z.object({ kind: z.literal(kind), ...shapeOf(members, () => z.string()) }),
  ),
) as unknown as z.ZodType<RevocationScope>

/** Every scope that would cover what relies on this, the widest first. */
export function* scopesCovering(
  dependsOn: CredentialDependencies,
): Generator<{ scope: RevocationScope; byId: boolean }> {
  for (const { covering, byId } of inOrder) for (const scope of covering(dependsOn)) yield { scope, byId }
}

/** A scope as one text. Each member has its length before it, so that no two scopes have the same. */
export const scopeKey = (scope: RevocationScope): string => {
  const values = scope as unknown as Readonly<Record<string, string | undefined>>
  let key: string = scope.kind
  for (const member of MEMBERS[scope.kind]) {
    const value = values[member]
    key += value === undefined ? '/' : `/${value.length}:${value}`
  }
  return key
}
const MEMBERS = Object.fromEntries(
  Object.entries(kinds).map(([kind, { members }]) => [kind, Object.keys(members)]),
) as unknown as Readonly<Record<Kind, readonly string[]>>

/** The scope in words, for errors and receipts: `user alice of acme`. */
export const describeScope = (scope: RevocationScope): string => {
  const words = kindOf(scope).named(scope)
  return scope.kind !== 'tenant' && 'tenant' in scope && scope.tenant !== undefined
    ? `${words} of ${scope.tenant}`
    : words
}
