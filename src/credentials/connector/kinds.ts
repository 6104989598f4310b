import type { CredentialKind, Downstream, Provider } from '#config'
import { ACCESS_TOKEN_TYPE, JWT_TOKEN_TYPE, SECRET_TOKEN_TYPE, type TokenTypeUri, TXN_TOKEN_TYPE } from '#oauth'

/** What of a credential can be made less than what its source has: what is asked is then what is issued. */
export type Narrowing = 'scope' | 'permission' | 'repository' | 'session_policy'

/** What is true of every credential of a kind, whatever a downstream's file says. */
export interface KindFacts {
  /** As what it can be issued (RFC 8693 section 3). */
  readonly issues: readonly TokenTypeUri[]
  /** Whether one credential can serve several downstreams. */
  readonly joint: boolean
  /** Made out of one subject token: it may not outlive it, falls with it, and is never given for another. */
  readonly fromSubjectToken: boolean
  /** Whether nodes share what one of them has fetched; what a node makes by itself is not worth asking for, and leases are shared in the store. */
  readonly shared: boolean
  /** Whether agents get it: it names no user, or names the agent as such. */
  readonly forAgents?: true
  /** Its grant is a lease, which is ended where it was given. */
  readonly leased?: true
  /** What can be narrowed, in the hands of this provider. */
  readonly narrows: (downstream: Downstream, provider: Provider | undefined) => readonly Narrowing[]
}

export const kinds: Readonly<Record<CredentialKind, KindFacts>> = {
  minted: {
    issues: [ACCESS_TOKEN_TYPE, JWT_TOKEN_TYPE, TXN_TOKEN_TYPE],
    joint: true,
    fromSubjectToken: true,
    shared: false,
    forAgents: true,
    narrows: () => ['scope'],
  },
  oauth_grant: {
    issues: [ACCESS_TOKEN_TYPE],
    joint: false,
    fromSubjectToken: false,
    shared: true,
    narrows: (_, provider) => (provider?.refresh.narrows === true ? ['scope'] : []),
  },
  static: {
    issues: [ACCESS_TOKEN_TYPE, SECRET_TOKEN_TYPE],
    joint: false,
    fromSubjectToken: false,
    shared: false,
    forAgents: true,
    narrows: () => [],
  },
  api_key: {
    issues: [ACCESS_TOKEN_TYPE, SECRET_TOKEN_TYPE],
    joint: false,
    fromSubjectToken: false,
    shared: false,
    forAgents: true,
    narrows: () => [],
  },
  basic: {
    issues: [ACCESS_TOKEN_TYPE, SECRET_TOKEN_TYPE],
    joint: false,
    fromSubjectToken: false,
    shared: false,
    forAgents: true,
    narrows: () => [],
  },
  client_credentials: {
    issues: [ACCESS_TOKEN_TYPE],
    joint: false,
    fromSubjectToken: false,
    shared: true,
    forAgents: true,
    narrows: () => ['scope'],
  },
  token_exchange: {
    issues: [ACCESS_TOKEN_TYPE],
    joint: false,
    fromSubjectToken: true,
    shared: true,
    narrows: () => ['scope'],
  },
  entra_obo: {
    issues: [ACCESS_TOKEN_TYPE],
    joint: false,
    fromSubjectToken: true,
    shared: true,
    narrows: () => ['scope'],
  },
  jwt_bearer: {
    issues: [ACCESS_TOKEN_TYPE, JWT_TOKEN_TYPE],
    joint: false,
    fromSubjectToken: false,
    shared: true,
    narrows: () => ['scope'],
  },
  saml_bearer: {
    issues: [ACCESS_TOKEN_TYPE],
    joint: false,
    fromSubjectToken: false,
    shared: true,
    narrows: () => ['scope'],
  },
  id_jag: {
    issues: [ACCESS_TOKEN_TYPE],
    joint: false,
    fromSubjectToken: false,
    shared: true,
    narrows: () => ['scope'],
  },
  dynamic: {
    issues: [ACCESS_TOKEN_TYPE, SECRET_TOKEN_TYPE],
    joint: false,
    fromSubjectToken: false,
    shared: false,
    leased: true,
    narrows: () => [],
  },
  mtls_certificate: {
    issues: [SECRET_TOKEN_TYPE],
    joint: false,
    fromSubjectToken: false,
    shared: false,
    leased: true,
    narrows: () => [],
  },
  github_app: {
    issues: [ACCESS_TOKEN_TYPE],
    joint: false,
    fromSubjectToken: false,
    shared: false,
    leased: true,
    narrows: () => ['scope', 'permission', 'repository'],
  },
  aws_sts: {
    issues: [SECRET_TOKEN_TYPE],
    joint: false,
    fromSubjectToken: false,
    shared: true,
    narrows: (downstream) =>
      downstream.credential === 'aws_sts' &&
      downstream.method !== 'session_token' &&
      Object.keys(downstream.statements).length > 0
        ? ['scope', 'session_policy']
        : [],
  },
  gcp_sts: {
    issues: [ACCESS_TOKEN_TYPE],
    joint: false,
    fromSubjectToken: false,
    shared: true,
    narrows: () => ['scope'],
  },
  azure: { issues: [ACCESS_TOKEN_TYPE], joint: false, fromSubjectToken: false, shared: true, narrows: () => [] },
}

/** The provider that a downstream's credentials come from, where it is one of those that have a file. */
export const providerOf = (downstream: Downstream): string | undefined =>
  'provider' in downstream ? downstream.provider : undefined

/** What can be narrowed of a downstream's credentials; policy may ask for it (`context.narrows`). */
export const narrowingOf = (downstream: Downstream, providers: ReadonlyMap<string, Provider>): readonly Narrowing[] =>
  kinds[downstream.credential].narrows(downstream, providers.get(providerOf(downstream) ?? ''))
