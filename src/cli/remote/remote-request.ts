import type { KnownServer, Settings } from '#config'
import type { RemoteFacts } from '#credentials/provider'
import type { Secret } from '#foundation/crypto'
import type { Egress } from '#foundation/outbound'

/** A remote MCP server that an admin wants as a downstream. */
export interface RemoteRequest {
  readonly url: string
  readonly id: string
  readonly name: string
  readonly tenants: '*' | readonly string[]
  /** The tenants of the home that those are now. */
  readonly tenantIds: readonly string[]
  readonly known: KnownServer | undefined
  /** The issuer to take where the server names several. */
  readonly issuer: string | undefined
  /** A client that was registered by hand. */
  readonly client: { readonly clientId: string; readonly secret: Secret | undefined } | undefined
}

/** Where a command works on it. */
export interface RemoteContext {
  readonly home: string
  readonly settings: Settings
  readonly egress: Egress
  readonly socket: string
}

/** What was found and done, for the files and for people. */
export interface RemoteResult {
  readonly facts: RemoteFacts
  readonly how: 'document' | 'dynamic' | 'manual'
  readonly issuers: readonly string[]
  /** When the client's secret ends (ms since the epoch). */
  readonly secretExpiresAt: number | undefined
}
