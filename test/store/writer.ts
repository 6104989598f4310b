/** A process that appends rows for ever and says which ones were acknowledged, until it is killed. */
import { openSqliteStore } from '../../src/foundation/store/sqlite/open.ts'
import { anAuditRow } from '../conformance/audit-row.ts'

const store = await openSqliteStore({ path: process.argv[2]! })
for (let seq = 1; seq <= 100_000; seq += 1) {
  await store.audit.append([anAuditRow(seq)])
  process.stdout.write(`${seq}\n`)
}
