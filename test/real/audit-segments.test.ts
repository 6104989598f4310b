/** Sealed segments of the audit log in a bucket of moto's S3, through the SDK unchanged. */
import {
  CreateBucketCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
} from '@aws-sdk/client-s3'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { openBucket } from '../../src/credentials/secret/aws/bucket.ts'
import { SegmentDelivery } from '../../src/foundation/audit/sinks/segments.ts'
import { walkFiles } from '../../src/foundation/audit/verify/files.ts'
import { ChainWalk } from '../../src/foundation/audit/verify/walk.ts'
import { findMoto, startMoto, type Moto } from '../peers/moto.ts'
import { aFolder, aLog, append, aWholeStore, INSTALLATION, known, signed, signer } from '../support/audit.ts'
import { aFollower, aPosition } from '../support/audit-sinks.ts'

const KEYS = { accessKeyId: 'test-test-test-test', secretAccessKey: 'test' }
const program = findMoto()

describe.skipIf(program === undefined)('sealed segments in a bucket', () => {
  let moto: Moto
  let client: S3Client
  const before = { ...process.env }
  beforeAll(async () => {
    moto = await startMoto(program!)
    client = new S3Client({ region: 'eu-central-1', endpoint: moto.url, credentials: KEYS, forcePathStyle: true })
    process.env['AWS_ACCESS_KEY_ID'] = KEYS.accessKeyId
    process.env['AWS_SECRET_ACCESS_KEY'] = KEYS.secretAccessKey
  })
  afterAll(async () => {
    process.env = before
    client?.destroy()
    await moto?.close()
  })

  it('verify as they are, are locked, and are never written again', async () => {
    const Bucket = 'audit-archive'
    await client.send(
      new CreateBucketCommand({
        Bucket,
        ObjectLockEnabledForBucket: true,
        CreateBucketConfiguration: { LocationConstraint: 'eu-central-1' },
      }),
    )
    const open = (prefix = 'deputy/') =>
      openBucket({
        region: 'eu-central-1',
        endpoint: moto.url,
        bucket: Bucket,
        prefix,
        retain: { mode: 'governance', for: 86_400_000 },
        timeout: 10_000,
        now: () => Date.now(),
      })
    const store = await aWholeStore()
    const log = await aLog(store.audit, { checkpointEvery: 10 })
    for (let batch = 0; batch < 5; batch += 1) await append(log, 20)
    await log.close()
    const head = (await store.audit.head())!
    const aDelivery = () =>
      new SegmentDelivery({
        name: 'segments archive',
        limits: { records: 30, bytes: 1_000_000 },
        sealAfter: 10,
        archive: open(),
        chain: { installation: INSTALLATION, node: store.audit.node },
        store: store.audit,
        sign: signer,
        verifySignature: signed,
        clock: systemClock,
      })
    // It ends after the first object is durable, and before its position is.
    const first = await store.audit.query({}, { limit: 30 })
    await aDelivery().send(await aDelivery().cut(first, true), AbortSignal.timeout(20_000))
    const delivery = aDelivery()
    const follower = aFollower(store, delivery, {
      position: aPosition(store, { sink: 'archive', mark: delivery.mark }),
    })
    follower.appended(head)
    await expect.poll(() => follower.status()).toMatchObject({ ok: true, confirmed: 100 })

    const { Contents = [] } = await client.send(new ListObjectsV2Command({ Bucket }))
    const keys = Contents.map(({ Key }) => Key!)
    expect(keys[0]).toBe(`deputy/${store.audit.node}/0000000001.jsonl`)
    const folder = await aFolder()
    await mkdir(join(folder, 'got'))
    const files = await Promise.all(
      keys.map(async (Key, index) => {
        const { Body } = await client.send(new GetObjectCommand({ Bucket, Key }))
        const content = Buffer.from(await Body!.transformToByteArray())
        const path = join(folder, 'got', `${index}`)
        await writeFile(path, content)
        return { path, bytes: content.length }
      }),
    )
    const walk = new ChainWalk(known)
    await walkFiles(walk, files)
    expect(walk.finish()).toMatchObject({
      records: 100,
      head: head.hash,
      checkpoints: (await store.audit.checkpoints()).length,
    })
    const { ObjectLockMode } = await client.send(new HeadObjectCommand({ Bucket, Key: keys[0]! }))
    expect(ObjectLockMode).toBe('GOVERNANCE')

    const bucket = open()
    const { signal } = new AbortController()
    const name = keys[0]!.replace('deputy/', '')
    expect(await bucket.put(name, Buffer.from('other'), signal)).toBe(false)
    expect((await bucket.get(name, 10_000_000, signal))?.length).toBe(files[0]!.bytes)
    await expect(bucket.get(name, 10, signal)).rejects.toThrow(/longer than a segment/)
    expect(await bucket.get('none', 10, signal)).toBeUndefined()
    await client.send(new PutObjectCommand({ Bucket, Key: `other/${name}`, Body: 'a text' }))
    const elsewhere = aFollower(
      store,
      new SegmentDelivery({
        name: 'segments elsewhere',
        limits: { records: 30, bytes: 1_000_000 },
        sealAfter: 10,
        archive: open('other/'),
        chain: { installation: INSTALLATION, node: store.audit.node },
        store: store.audit,
        sign: signer,
        verifySignature: signed,
        clock: systemClock,
      }),
      { position: aPosition(store, { sink: 'elsewhere' }) },
    )
    elsewhere.appended(head)
    await expect.poll(() => elsewhere.status().problem).toMatch(/is there already/)
    const nowhere = openBucket({
      region: 'eu-central-1',
      endpoint: moto.url,
      bucket: 'no-such-bucket',
      prefix: '',
      timeout: 10_000,
      now: () => Date.now(),
    })
    await expect(nowhere.put('a', Buffer.from('a'), signal)).rejects.toThrow(/NoSuchBucket \(404\)/)
  })
})
