/** A snapshot for tests of single rooms, built by the schemas that read files. */
import { serverSchema, type Server } from '../../src/config/server.ts'
import { settingsSchema } from '../../src/config/settings.ts'
import type { Snapshot } from '../../src/config/snapshot.ts'
import type { ExecSessions } from '../../src/identity/workload/exec-sessions.ts'
import { tenantSchema, type Tenant } from '../../src/config/tenant.ts'

let generation = 0

export const aServer = (given: object = {}): Server =>
  serverSchema.parse({
    server: 'notes',
    resource: 'https://notes.example/mcp',
    tenants: ['acme'],
    owner: 'notes@example.com',
    status: 'approved',
    ...given,
  })

export const aTenant = (given: object = {}): Tenant => tenantSchema.parse({ tenant: 'acme', ...given })

export const aSnapshot = (
  given: { servers?: readonly Server[]; tenants?: readonly Tenant[]; settings?: object } = {},
): Snapshot => ({
  generation: (generation += 1),
  home: '/nowhere',
  settings: settingsSchema.parse({ environment: 'test', issuer: 'https://deputy.example', ...given.settings }),
  servers: new Map((given.servers ?? [aServer()]).map((server) => [server.server, server])),
  tenants: new Map((given.tenants ?? [aTenant()]).map((tenant) => [tenant.tenant, tenant])),
  downstreams: new Map(),
  clients: new Map(),
  providers: new Map(),
  rotations: new Map(),
  apis: new Map(),
  hosted: new Map(),
})

/** Of a daemon that has started no server. */
export const noExecSessions: Pick<ExecSessions, 'isToken' | 'byToken' | 'of'> = {
  isToken: () => false,
  byToken: () => {
    throw new Error('there are none')
  },
  of: () => [],
}

/** A clock that stands still until it is moved, or set: what has elapsed then is not what it shows. */
export const aClock = (
  now = Date.now(),
): { now(): number; elapsed(): number; forward(milliseconds: number): void; set(by: number): void } => {
  let [time, elapsed] = [now, 0]
  return {
    now: () => time,
    elapsed: () => elapsed,
    forward: (milliseconds) => {
      time += milliseconds
      elapsed += milliseconds
    },
    set: (by) => {
      time += by
    },
  }
}
