import { readdir, readFile, writeFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { createSegmentFolder } from '../../../src/foundation/audit/sinks/segment-folder.ts'
import {
  SegmentDelivery,
  type SegmentArchive,
  type SegmentOptions,
} from '../../../src/foundation/audit/sinks/segments.ts'
import { walkFiles } from '../../../src/foundation/audit/verify/files.ts'
import { ChainWalk } from '../../../src/foundation/audit/verify/walk.ts'
import { systemClock } from '../../../src/clock.ts'
import type { Store } from '../../../src/foundation/store/store.ts'
import {
  aFolder,
  aLog,
  append,
  aRecord,
  aWholeStore,
  INSTALLATION,
  known,
  signed,
  signer,
} from '../../support/audit.ts'
import { aFollower, aPosition } from '../../support/audit-sinks.ts'

const aDelivery = (store: Store, archive: SegmentArchive, over: Partial<SegmentOptions> = {}): SegmentDelivery =>
  new SegmentDelivery({
    name: 'segments archive',
    limits: { records: 30, bytes: 1_000_000 },
    sealAfter: 10,
    archive,
    chain: { installation: INSTALLATION, node: store.audit.node },
    store: store.audit,
    sign: signer,
    verifySignature: signed,
    clock: systemClock,
    ...over,
  })
const follow = (store: Store, delivery: SegmentDelivery) =>
  aFollower(store, delivery, { position: aPosition(store, { sink: 'archive', mark: delivery.mark }) })

/** What a verifier finds who has the folder alone. */
const verify = async (folder: string) => {
  const names = (await readdir(folder)).toSorted()
  const walk = new ChainWalk(known)
  await walkFiles(
    walk,
    await Promise.all(
      names.map(async (name) => ({ path: join(folder, name), bytes: (await stat(join(folder, name))).size })),
    ),
  )
  return { names, ...walk.finish() }
}

describe('sealed segments in a folder', () => {
  it('hold every record and checkpoint, verify by themselves, and go on over a restart', async () => {
    const [store, folder] = [await aWholeStore(), await aFolder()]
    for (const last of ['a', 'b']) {
      const follower = follow(store, aDelivery(store, createSegmentFolder(folder)))
      const log = await aLog(store.audit, {
        checkpointEvery: 7,
        appended(head) {
          follower.appended(head)
        },
      })
      await append(log, 80)
      await log.append(aRecord(last))
      await log.close()
      await follower.close()
    }
    const { names, records, checkpoints, problem } = await verify(join(folder, store.audit.node))
    expect(problem).toBeUndefined()
    const head = (await store.audit.head())!
    expect(records).toBe(head.seq)
    expect(checkpoints).toBe((await store.audit.checkpoints()).length)
    expect(names[0]).toBe('0000000001.jsonl')
    expect(names.length).toBeGreaterThan(4)
    expect((await stat(join(folder, store.audit.node, names[0]!))).mode & 0o777).toBe(0o600)
  })

  it('take over a segment whose position was not written, and write nothing again', async () => {
    const [store, folder] = [await aWholeStore(), await aFolder()]
    const log = await aLog(store.audit, { checkpointEvery: 10 })
    await append(log, 50)
    await log.close()
    const archive = createSegmentFolder(folder)
    // It ends after the segment is durable, and before its position is.
    const rows = await store.audit.query({}, { limit: 30 })
    await aDelivery(store, archive).send(rows, new AbortController().signal)
    const first = await readFile(join(folder, store.audit.node, '0000000001.jsonl'), 'utf8')
    const follower = follow(store, aDelivery(store, archive))
    follower.appended((await store.audit.head())!)
    await expect.poll(() => follower.status()).toMatchObject({ ok: true, confirmed: 50 })
    expect(await readFile(join(folder, store.audit.node, '0000000001.jsonl'), 'utf8')).toBe(first)
    expect(await verify(join(folder, store.audit.node))).toMatchObject({
      records: 50,
      checkpoints: (await store.audit.checkpoints()).length,
    })
  })

  it('are never written over what another installation, or a person, has put there', async () => {
    const [store, folder] = [await aWholeStore(), await aFolder()]
    const log = await aLog(store.audit, { checkpointEvery: 10 })
    await append(log, 20)
    await log.close()
    const archive = createSegmentFolder(folder)
    const path = join(folder, store.audit.node, '0000000001.jsonl')
    const rows = await store.audit.query({}, { limit: 20 })
    const { signal } = new AbortController()
    await aDelivery(store, archive, { chain: { installation: 'other', node: store.audit.node } }).send(rows, signal)
    const of = await readFile(path, 'utf8')
    const altered = [
      of,
      '',
      'text\n',
      of.replaceAll('"installation":"other"', `"installation":"${INSTALLATION}"`),
      of.slice(0, of.lastIndexOf('{"footer"')),
    ]
    for (const text of altered) {
      await writeFile(path, text)
      const follower = follow(store, aDelivery(store, archive))
      follower.appended(rows.at(-1)!)
      await expect.poll(() => follower.status().problem).toMatch(/is there already and is not the segment that follows/)
      expect(await readFile(path, 'utf8')).toBe(text)
      await follower.close()
    }
  })

  it('wait for a checkpoint, so that none of them is left out', async () => {
    const [store, folder] = [await aWholeStore(), await aFolder()]
    const delivery = aDelivery(store, createSegmentFolder(folder))
    const log = await aLog(store.audit, { checkpointEvery: 10 })
    await append(log, 25)
    const signedUpTo = (await store.audit.lastCheckpoint())!.seq
    await log.append(aRecord('not signed yet'))
    const rows = await store.audit.query({}, { limit: 30 })
    const rest = rows.filter(({ seq }) => seq > signedUpTo)
    expect(rest.length).toBeGreaterThan(0)
    expect(await delivery.cut(rows, false)).toEqual(rows.filter(({ seq }) => seq <= signedUpTo))
    expect(await delivery.cut(rest, false)).toEqual([])
    // Checkpoints may be further apart than a segment is long.
    expect(await delivery.cut(rest, true)).toEqual(rest)
    await log.close()
    expect(await delivery.cut(rest, false)).toEqual(rest)
  })
})
