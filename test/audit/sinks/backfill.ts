/** A process that brings the records of a store to an HTTP receiver until it has all of them, or is killed; it says each position that is durable. */
import { systemClock } from '../../../src/clock.ts'
import { createDocuments } from '../../../src/foundation/audit/sinks/document.ts'
import { Follower } from '../../../src/foundation/audit/sinks/follower.ts'
import { createHttpDelivery } from '../../../src/foundation/audit/sinks/http.ts'
import { Pacing } from '../../../src/foundation/audit/sinks/pacing.ts'
import { SinkPosition } from '../../../src/foundation/audit/sinks/position.ts'
import { createEgress } from '../../../src/foundation/outbound/fetch.ts'
import { openSqliteStore } from '../../../src/foundation/store/sqlite/open.ts'
import { silentLogger } from '../../../src/foundation/telemetry/logger.ts'
import { noTelemetry } from '../../../src/foundation/telemetry/telemetry.ts'

const [path, url] = process.argv.slice(2) as [string, string]
const store = await openSqliteStore({ path })
const document = createDocuments('ecs', { node: store.audit.node, environment: 'test' })
const receiver = {
  url,
  egress: createEgress({ allowLoopback: true, allowPrivate: [], timeout: 5000 }),
  authorization: undefined,
  headers: {},
  timeout: 5000,
  clock: systemClock,
}
const follower = new Follower({
  delivery: createHttpDelivery(
    { name: 'http siem', limits: { records: 20, bytes: 1_000_000 } },
    receiver,
    'json',
    document,
  ),
  store: store.audit,
  position: new SinkPosition({
    sink: 'siem',
    store: store.audit,
    positions: {
      ...store.auditPositions,
      async put(sink, kept) {
        await store.auditPositions.put(sink, kept)
        process.stdout.write(`${kept.seq}\n`)
      },
    },
    prove: (text) => `proof of ${text}`,
    backfill: 'start',
    interval: 10,
    logger: silentLogger,
  }),
  pacing: new Pacing({ first: 10, longest: 10, longestAsked: 10, monotonic: () => performance.now(), random: () => 1 }),
  deadline: 5000,
  alertAfter: 60_000,
  clock: systemClock,
  telemetry: noTelemetry,
  logger: silentLogger,
})
const head = (await store.audit.head())!
follower.appended(head)
while (follower.status().confirmed !== head.seq) await new Promise((resolve) => setTimeout(resolve, 20))
await follower.close()
await receiver.egress.close()
await store.close()
