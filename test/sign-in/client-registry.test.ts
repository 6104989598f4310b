import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test, vi } from 'vitest'
import { createSystemRandom } from '../../src/clock.ts'
import type { AuditRecord } from '../../src/foundation/audit/record.ts'
import { silentLogger } from '../../src/foundation/telemetry/logger.ts'
import { type ClientMetadata, readClientMetadata } from '../../src/identity/client/metadata.ts'
import { type ClientRegistry, createClientRegistry } from '../../src/identity/client/registry.ts'
import { type KeysAndStore, startGround } from '../support/keyring.ts'
import { aClock, aSnapshot } from '../support/snapshot.ts'

const DAY = 86_400_000
const ID = 'https://client.example/document.json'
const settings = {
  clients: { approval: 'unknown', metadata_documents: { hosts: ['trusted.example'] }, registration: { limit: 3 } },
}

let ground: KeysAndStore
beforeAll(async () => {
  ground = await startGround()
})
afterAll(() => ground?.close())
beforeEach(() => {
  ground.empty()
})

const metadata = (more: object = {}): ClientMetadata =>
  readClientMetadata({ client_name: 'Editor', redirect_uris: ['https://client.example/back'], ...more }, 'document', [])

/** Two nodes on one store, at one time. */
const nodes = (): {
  one: ClientRegistry
  other: ClientRegistry
  clock: ReturnType<typeof aClock>
  log: AuditRecord[]
} => {
  const clock = aClock()
  const log: AuditRecord[] = []
  const snapshot = aSnapshot({ settings })
  const node = (): ClientRegistry =>
    createClientRegistry({
      store: ground.store.clients,
      envelope: ground.envelope,
      snapshot: () => snapshot,
      audit: {
        append: (record) => {
          log.push(record)
          return Promise.resolve()
        },
      },
      clock,
      random: createSystemRandom(),
      newId: () => 'id',
      logger: silentLogger,
    })
  return { one: node(), other: node(), clock, log }
}

test('a document that changes after its approval has to be approved again, and what changed is recorded', async () => {
  const { one, other, clock, log } = nodes()
  await one.noteDocument(ID, metadata(), clock.now() + 1000)
  const seen = await other.find(ID)
  expect(seen).toMatchObject({ isApproved: false, provenBy: 'client.example', changedAt: clock.now() })
  expect(await one.approve(ID, 'uid 0', seen!.digest)).toMatchObject({ isApproved: true })
  clock.forward(1000)
  await other.noteDocument(ID, metadata(), clock.now() + 1000)
  expect(await one.find(ID)).toMatchObject({ isApproved: true, changedAt: clock.now() - 1000 })
  expect(log).toEqual([])

  const changed = metadata({ redirect_uris: ['https://evil.example/'] })
  await Promise.all([one, other].map((node) => node.noteDocument(ID, changed, clock.now() + 1000)))
  expect(await one.find(ID)).toMatchObject({ isApproved: false, changedAt: clock.now() })
  expect(log[0]).toMatchObject({ event: 'client.change', detail: { client: ID, approval_ended: true } })
  // What an administrator has looked at before is not what it is now.
  expect(await one.approve(ID, 'uid 0', seen!.digest)).toMatchObject({ isApproved: false })
})

test('a document whose addresses or keys change ends its sign-ins before the change counts; a new name does not', async () => {
  const { one, other, clock } = nodes()
  const keyed = { token_endpoint_auth_method: 'private_key_jwt', jwks: { keys: [{ kty: 'EC', kid: 'a' }] } }
  const ended: [string, string][] = []
  const note = (more: object) =>
    one.noteDocument(ID, metadata(more), clock.now() + 1000, async (changed) => {
      ended.push([changed, (await other.find(ID))?.name ?? ''])
    })
  await note({ client_name: 'First' })
  await note({ client_name: 'First', redirect_uris: ['https://client.example/other'] })
  expect(ended).toEqual([])
  await one.used(ID, clock.now())
  await note({ client_name: 'Second', redirect_uris: ['https://client.example/other'] })
  expect(ended).toEqual([])
  await note({ client_name: 'Third' })
  await note({ client_name: 'Fourth', ...keyed })
  await note({ client_name: 'Fourth', ...keyed, jwks: { keys: [{ kty: 'EC', kid: 'b' }] } })
  expect(ended).toEqual([
    ['redirect_uris', 'Second'],
    ['token_endpoint_auth_method, jwks', 'Third'],
    ['jwks', 'Fourth'],
  ])
  const failing = one.noteDocument(ID, metadata(), clock.now() + 1000, () => Promise.reject(new Error('cut off')))
  await expect(failing).rejects.toThrow('cut off')
  expect((await other.find(ID))?.metadata.authentication).toBe('private_key_jwt')
})

test('clients that no user signs in at are forgotten and bounded, the others stay', async () => {
  const { one, other, clock } = nodes()
  const registered = await Promise.all(
    [one, other].map(async (node) => (await node.register({ ...metadata(), authentication: 'none' })).client.id),
  )
  await one.used(registered[0]!, clock.now() + 30 * DAY)
  await one.noteDocument(ID, metadata(), clock.now())
  await other.register(metadata())
  await expect(one.register(metadata())).rejects.toMatchObject({ code: 'rate_limited' })
  await expect(one.noteDocument(`${ID}x`, metadata(), clock.now())).rejects.toMatchObject({ code: 'rate_limited' })
  await one.waits(registered[1]!)
  clock.forward(2 * DAY)
  expect(await one.find(ID)).toBeUndefined()
  expect(await other.find(registered[0]!)).toMatchObject({ known: 'registered', provenBy: undefined })
  expect(await other.find(registered[1]!)).toBeDefined()
  // A document that was forgotten is met anew, though its row is still there.
  await one.noteDocument(ID, metadata(), clock.now() + 1000)
  expect(await other.seenDocument(ID)).toMatchObject({ checkedAt: clock.now() })
  clock.forward(130 * DAY)
  expect(await one.find(registered[0]!)).toBeUndefined()
})

test('a client that redeems is read from the store once in a minute, and one that is removed is not kept', async () => {
  const { one, other, clock } = nodes()
  const { client } = await one.register(metadata({ client_name: 'Busy' }))
  const find = vi.spyOn(ground.store.clients, 'find')
  onTestFinished(() => {
    find.mockRestore()
  })
  for (let at = 0; at < 5; at += 1) expect(await one.recent(client.id)).toMatchObject({ name: 'Busy' })
  expect(find).toHaveBeenCalledTimes(1)
  // What begins a sign-in is told at once that another node has removed it.
  await other.remove(client.id)
  expect(await one.find(client.id)).toBeUndefined()
  await one.remove(client.id)
  expect(await one.recent(client.id)).toBeUndefined()
  // A document can change: it is read each time.
  await one.noteDocument(ID, metadata({ client_name: 'Before' }), clock.now() + 1000)
  expect(await one.recent(ID)).toMatchObject({ name: 'Before' })
  await other.noteDocument(ID, metadata({ client_name: 'After' }), clock.now() + 1000)
  expect(await one.recent(ID)).toMatchObject({ name: 'After' })
})

test('promise 8: a row that was copied to another id, or written by hand, is no client', async () => {
  const { one, other, clock } = nodes()
  const { client } = await one.register(metadata())
  const { sealed, createdAt, expiresAt } = (await ground.store.clients.find(client.id, clock.now()))!
  const row = { sealed, createdAt, expiresAt }
  await ground.store.clients.add({ ...row, id: 'dcr_copied' })
  await ground.store.clients.add({ ...row, id: 'dcr_made', sealed: Buffer.from('{}') })
  for (const id of ['dcr_copied', 'dcr_made']) expect(await other.find(id)).toBeUndefined()
  expect(await other.find(client.id)).toMatchObject({ id: client.id, name: 'Editor' })
  expect(await one.remove(client.id)).toBe(true)
  expect(await other.find(client.id)).toBeUndefined()
})
