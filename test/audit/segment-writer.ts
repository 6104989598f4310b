/** A process whose 16 requesters append to segment files for ever and say what was acknowledged, until it is killed. */
import { createPrivateKey, sign } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { systemClock } from '../../src/clock.ts'
import { DurableAuditLog } from '../../src/foundation/audit/log.ts'
import { openSegmentAudit } from '../../src/foundation/audit/segments/segment-store.ts'
import { openSqliteStore } from '../../src/foundation/store/sqlite/open.ts'
import { silentLogger } from '../../src/foundation/telemetry/logger.ts'
import { noTelemetry } from '../../src/foundation/telemetry/telemetry.ts'

const [folder, prefix] = process.argv.slice(2) as [string, string]
const key = createPrivateKey(readFileSync(join(folder, 'key.pem')))
const signed = (bytes: Uint8Array) => ({
  kid: 'k',
  signature: sign('sha256', bytes, { key, dsaEncoding: 'ieee-p1363' as const }),
})
const database = await openSqliteStore({ path: join(folder, 'deputy.db') })
const { store, openChain } = await openSegmentAudit({
  folder: join(folder, 'audit'),
  chain: { installation: 'an-installation', node: 'local' },
  // Small, so that segments are sealed all the time.
  rules: { size: 300_000, age: 86_400_000 },
  tables: database.audit,
  sign: signed,
  logger: silentLogger,
})
const log = await DurableAuditLog.open({
  store,
  openChain,
  sinks: [],
  clock: systemClock,
  deadline: 5000,
  installation: 'an-installation',
  checkpointEvery: 100,
  checkpointWithin: 10_000,
  sign: signed,
  telemetry: noTelemetry,
  logger: silentLogger,
})
let next = 0
await Promise.all(
  Array.from({ length: 16 }, async (_, at) => {
    for (;;) {
      const id = `${prefix}-${(next += 1)}`
      await log.append({
        id,
        event: 'token.exchange',
        outcome: 'issued',
        detail: { text: 'x'.repeat((next * 37) % (200 + at * 100)) },
      })
      process.stdout.write(`${id}\n`)
    }
  }),
)
