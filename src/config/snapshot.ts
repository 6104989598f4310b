import type { CompiledApi } from './api.ts'
import type { Client } from './client.ts'
import type { Downstream } from './downstream.ts'
import type { HostedTools } from './hosted-tools.ts'
import type { Provider } from './provider.ts'
import type { RotationPolicy } from './rotation-policy.ts'
import type { Server } from './server.ts'
import type { Settings } from './settings.ts'
import type { Tenant } from './tenant.ts'

/**
 * Everything that files say for the environment of the settings, read and checked at one moment. A snapshot never changes; a reload makes the next one,
 * with a higher generation, or none at all when a file is wrong.
 */
export interface Snapshot {
  readonly generation: number
  readonly home: string
  readonly settings: Settings
  readonly tenants: ReadonlyMap<string, Tenant>
  readonly servers: ReadonlyMap<string, Server>
  readonly downstreams: ReadonlyMap<string, Downstream>
  readonly providers: ReadonlyMap<string, Provider>
  /** MCP clients that files register. */
  readonly clients: ReadonlyMap<string, Client>
  readonly rotations: ReadonlyMap<string, RotationPolicy>
  readonly apis: ReadonlyMap<string, CompiledApi>
  /** Tools that Deputy itself serves, by server and by name. */
  readonly hosted: ReadonlyMap<string, HostedTools>
}

/** Gives the snapshot in force. Ask anew for each request; never keep what it returns across an await that matters. */
export type CurrentSnapshot = () => Snapshot
