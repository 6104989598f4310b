/** A process whose 16 requesters append for ever and say what was acknowledged, until it is killed. */
import { join } from 'node:path'
import { createFileSink } from '../../src/foundation/audit/sinks/file-sink.ts'
import { DurableAuditLog } from '../../src/foundation/audit/log.ts'
import { systemClock } from '../../src/clock.ts'
import { silentLogger } from '../../src/foundation/telemetry/logger.ts'
import { noTelemetry } from '../../src/foundation/telemetry/telemetry.ts'
import { openSqliteStore } from '../../src/foundation/store/sqlite/open.ts'

const folder = process.argv[2]!
const store = await openSqliteStore({ path: join(folder, 'deputy.db') })
const log = await DurableAuditLog.open({
  store: store.audit,
  sinks: [createFileSink(join(folder, 'audit.jsonl'))],
  clock: systemClock,
  deadline: 2000,
  installation: 'an-installation',
  checkpointEvery: 1_000_000,
  checkpointWithin: 600_000,
  sign: () => {
    throw new Error('it is killed before it signs')
  },
  telemetry: noTelemetry,
  logger: silentLogger,
})
let next = 0
await Promise.all(
  Array.from({ length: 16 }, async () => {
    while (next < 100_000) {
      const id = `r${(next += 1)}`
      await log.append({ id, event: 'token.exchange', outcome: 'issued', detail: {} })
      process.stdout.write(`${id}\n`)
    }
  }),
)
