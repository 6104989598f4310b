import type { Api, CompiledApi } from './api.ts'
import type { Client } from './client.ts'
import type { Downstream } from './downstream.ts'
import type { Provider } from './provider.ts'
import type { RotationPolicy } from './rotation-policy.ts'
import type { Server } from './server.ts'
import type { Settings } from './settings.ts'
import type { Tenant } from './tenant.ts'
import type { Located } from './yaml-file.ts'

/** Everything read from a folder, located, so that later checks can name lines. */
export interface Loaded {
  /** The folder that the paths of the settings are relative to. */
  readonly home: string
  readonly settings: Located<Settings>
  readonly tenants: ReadonlyMap<string, Located<Tenant>>
  readonly servers: ReadonlyMap<string, Located<Server>>
  readonly downstreams: ReadonlyMap<string, Located<Downstream>>
  readonly providers: ReadonlyMap<string, Located<Provider>>
  readonly clients: ReadonlyMap<string, Located<Client>>
  readonly rotations: ReadonlyMap<string, Located<RotationPolicy>>
  readonly apis: ReadonlyMap<string, Located<Api>>
  /** Those whose document is in order. */
  readonly compiled: ReadonlyMap<string, CompiledApi>
}
