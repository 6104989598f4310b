import type { Clock } from '#clock'
import type { CurrentSnapshot, Server } from '#config'
import type { Fingerprint, Secret } from '#foundation/crypto'
import type { SessionStore } from '#foundation/store'
import type { Telemetry } from '#foundation/telemetry'
import type { ClientSessions } from '#identity/client'
import type { WatchClaims } from './claim-watch.ts'
import type { Introspect } from './introspection.ts'
import type { IssuerKeys } from './issuer-keys.ts'
import type { ReadMintedToken } from './minted-token.ts'

/** A subject token as a caller sent it. Nothing of it is believed yet. */
export interface SubjectRequest {
  readonly token: Secret
  readonly tokenType: string
  readonly server: Server
  readonly actorToken?: Secret
  readonly actorTokenType?: string
}

/** What the verification of subjects reads and calls. */
export interface SubjectDependencies {
  readonly snapshot: CurrentSnapshot
  readonly keys: IssuerKeys
  readonly introspect: Introspect
  readonly sessions: SessionStore
  readonly readMintedToken: ReadMintedToken
  readonly clientSessions: Pick<ClientSessions, 'find'>
  readonly ownIssuer: () => string
  readonly fingerprint: Fingerprint
  readonly clock: Clock
  readonly telemetry: Telemetry
  /** Called with the claims of each token that was verified anew. */
  readonly watchClaims?: WatchClaims
  /** Called when a verified token or sign-in of an issuer names its session. */
  readonly sessionNamed?: (of: { readonly tenant: string; readonly issuer: string }) => void
}
