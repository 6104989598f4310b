import { expect } from 'vitest'
import type { Lease } from '../../src/foundation/store/records/leases.ts'
import type { Store } from '../../src/foundation/store/store.ts'

const aLease = (given: Partial<Lease>): Lease => ({
  id: 'l1',
  tenant: 'acme',
  user: 'alice',
  server: 'notes',
  downstream: 'orders',
  backend: 'vault',
  role: 'reader',
  state: 'active',
  external: 'database/creds/reader/1',
  sealed: new Uint8Array([1, 2, 3]),
  duration: 60_000,
  createdAt: 1,
  renewedAt: 2,
  usedAt: 3,
  expiresAt: 4,
  nextAt: 5,
  attempts: 0,
  problem: null,
  revision: 0,
  parent: null,
  ...given,
})
const LEASES = [
  aLease({}),
  aLease({ id: 'l2', state: 'ending' }),
  aLease({ id: 'l3', user: null, backend: 'vault/pki' }),
]

/** Makes the schema what it was before an owner could have several leases. */
export const BEFORE_LEASE_QUESTIONS =
  'drop index leases_owner; create unique index leases_owner on leases (tenant, "user", server, downstream) where state <> \'ending\'; alter table sessions drop column sealed; alter table consents drop column proof; drop index leases_parent; alter table leases drop column parent; drop table backend_tokens; alter table epochs drop column token; alter table nodes drop column seen_token; alter table nodes drop column seen_proof; alter table nodes drop column token; alter table nodes drop column configuration; alter table nodes drop column configured_at; drop table standing_history; drop table store_servers; drop table store_losses; alter table rotations drop column sealed; alter table rotations drop column target; alter table rotations drop column turned_back; drop index audit_event; drop table user_names; alter table audit_checkpoints drop column number; drop table clients; drop table client_sessions; drop table authorization_records; drop table audit_positions; delete from schema_version where version >= 7'

/** A store that holds leases of before an owner could have several: they go on, and others can stand beside them. */
export const expectOlderLeases = async (open: () => Promise<Store>, toOlder: () => Promise<void>): Promise<void> => {
  let store = await open()
  for (const lease of LEASES) await store.leases.begin(lease)
  const before = await store.leases.list({})
  expect(before).toHaveLength(3)
  await store.close()
  await toOlder()
  store = await open()
  try {
    expect(await store.leases.list({})).toEqual(before)
    expect((await store.leases.find(LEASES[0]!))?.id).toBe('l1')
    expect(await store.leases.begin(aLease({ id: 'again' }))).toBe(false)
    expect(await store.leases.begin(aLease({ id: 'of-another-role', role: 'writer' }))).toBe(true)
  } finally {
    await store.close()
  }
}
