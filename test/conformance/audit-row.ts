import type { AuditRow } from '../../src/foundation/store/records/audit.ts'

export const anAuditRow = (seq: number, over: Partial<AuditRow> = {}): AuditRow => ({
  seq,
  id: `request-${seq}`,
  at: seq * 10,
  event: 'token.exchange',
  outcome: 'issued',
  tenant: 'acme',
  user: 'ada',
  server: 'notes',
  downstream: null,
  body: `{"seq":${seq}}`,
  hash: `hash-${seq}`,
  ...over,
})
