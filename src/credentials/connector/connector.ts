import type { CredentialKind, Downstream, Server, Tenant } from '#config'
import type { ProofKey, Secret } from '#foundation/crypto'
import type { Grant, RotatedSecret } from '#foundation/store'
import type { ActorClaim, ProofBinding, TokenTypeUri } from '#oauth'
import type { RejectedCredential } from './rejection.ts'
import type { TokenStatus } from './minted/status-index.ts'

/** For whom a credential is obtained: a user of a tenant, an agent, or the workload itself (client_credentials). */
export type Principal =
  | { readonly kind: 'user'; readonly tenant: string; readonly user: string }
  | { readonly kind: 'agent'; readonly tenant: string; readonly agent: string }
  | { readonly kind: 'workload'; readonly tenant: string; readonly server: string }

/** What a connector is asked for, after policy has decided: it never gets to widen it. */
export interface CredentialRequest {
  readonly principal: Principal
  readonly tenant: Tenant
  readonly server: Server
  readonly downstream: Downstream
  /** Other downstreams that the credential is for as well, where its kind can serve several. */
  readonly others?: readonly Downstream[]
  /** Scopes to issue: asked, registered and allowed. Sorted, without doubles. */
  readonly scopes: readonly string[]
  /** Nothing issued may live longer than this (ms since the epoch): the end of the subject token. */
  readonly notAfter: number
  /** Audiences of a minted token: the downstream's resource first, then others asked along with it. */
  readonly audiences: readonly string[]
  /** Prior actors, outermost first, that become the nested `act` of a minted token (RFC 8693 section 4.1). */
  readonly priorActors: readonly ActorClaim[]
  /** Ids of the tokens that this one descends from; revoking one of them voids what descends. */
  readonly ancestors: readonly string[]
  /** The verified subject token, for kinds that are made out of it; absent where a server asks for itself, or a login session stands for the user. */
  readonly subjectToken?: { readonly token: Secret; readonly type: TokenTypeUri; readonly issuer: string }
  /** What it is to be, where the request says so. */
  readonly requestedTokenType?: TokenTypeUri
  /** The key that who presents it has to have (RFC 7800). */
  readonly confirmation?: ProofBinding
  /** The MCP tool that is being called, where the request says so. */
  readonly tool?: string
  /** What was handed out for this before, where its service refused it. */
  readonly rejected?: RejectedCredential
  /** Which versions of its secrets the downstream has at this moment. */
  readonly secretVersions?: string
  readonly correlationId: string
  readonly signal?: AbortSignal
}

/** Every downstream that a credential is for. */
export const downstreamsOf = ({
  downstream,
  others = [],
}: Pick<CredentialRequest, 'downstream' | 'others'>): readonly [Downstream, ...Downstream[]] => [downstream, ...others]

/** A version of a secret that rotates. `mustBeCurrent`: it may end as soon as no process is recorded to have it. */
export interface CheckedOutSecret {
  readonly secret: RotatedSecret
  readonly version: string
  readonly mustBeCurrent: boolean
}

/** A short-lived credential, ready to be handed out. */
export interface Credential {
  readonly token: Secret
  readonly issuedTokenType: TokenTypeUri
  readonly tokenType: 'Bearer' | 'DPoP' | 'N_A'
  /** The key of Deputy's own that the token is bound to: no other party can use it. */
  readonly proofKey?: ProofKey
  readonly scopes: readonly string[]
  /** Milliseconds since the epoch. */
  readonly expiresAt: number
  /** True when the provider could not narrow and policy let the over-scoped token pass. */
  readonly overScoped: boolean
  /** The grant that it came from. */
  readonly grant?: string
  /** It may change before it expires, so that it is read anew for each request. */
  readonly volatile?: true
  /** The version of a secret that rotates: the daemon records which process has it. */
  readonly checkout?: CheckedOutSecret
  /** `jti` of a minted token. */
  readonly tokenId?: string
  /** Where the status of a minted token is published, and when it was issued (seconds). */
  readonly status?: TokenStatus & { readonly iat: number }
  /** What the provider's answer said beside the token, as far as its file passes it on (`response_fields`). */
  readonly fields?: Readonly<Record<string, string>>
  /** One line for the audit record and `deputy explain`: which provider answered what. No secret. */
  readonly auditNote: string
}

/** Code that obtains one kind of credential. Tests: `test/connector/`. */
export interface Connector {
  readonly kind: CredentialKind
  /** @throws DeputyError of the categories grant, provider and secret */
  obtain(request: CredentialRequest): Promise<Credential>
}
export type Connectors = Readonly<Record<CredentialKind, Connector>>

/**
 * How a grant ended at its provider: ended, to be retried, to be ended when no other grant in use would end with it, not
 * offered there, or no longer possible for Deputy.
 */
export type UpstreamOutcome = 'done' | 'queued' | 'waiting' | 'not_offered' | 'failed'

/** A durable order to a provider; `nextAt` is when it is tried without having been asked (ms since the epoch). */
export interface RevocationOrder {
  readonly id: string
  readonly nextAt: number
}

/** Capability: what a connector holds for a user can be ended at its source. */
export interface Revocable {
  /** Writes durable orders to the providers, which any node carries out later. @returns the order of each grant */
  prepare(grants: readonly Grant[]): Promise<Map<string, RevocationOrder>>
  /**
   * Notifies the provider that the grant has ended. The grant is no longer in the store when this is called.
   * @param order what `prepare` gave; without one, a failure is not retried, because the tenant's key is about to be destroyed
   */
  revoke(grant: Grant, order?: RevocationOrder): Promise<UpstreamOutcome>
  /** The grants in use that would end at the provider together with this one (`revocation_ends`). */
  sharedWith(grant: Grant): Promise<readonly string[]>
}
