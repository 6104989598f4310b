import { createPublicKey, type JsonWebKey, type KeyObject } from 'node:crypto'
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { verifyEs256 } from '#foundation/crypto'
import type { AuditStore, SegmentFile } from '#foundation/store'
import type { ChainName } from '../format/chain.ts'
import { walkFiles } from './files.ts'
import { walkTables, type WalkChain } from './verify.ts'
import { ChainWalk, type KnownHead, type Walked } from './walk.ts'

/** A public key, and the id by which signatures name it. */
export interface VerificationKey {
  readonly kid: string
  /** RFC 7517. */
  readonly jwk: object
}

/** What the thread is to do. */
export interface WalkOrder {
  readonly chain: ChainName
  readonly heads: readonly KnownHead[]
  readonly keys: readonly VerificationKey[]
  readonly files: readonly Pick<SegmentFile, 'path' | 'bytes'>[]
}

// Sources run as TypeScript, the published package as JavaScript: the thread's file is in the same folder.
const workerFile = new URL(import.meta.url.endsWith('.ts') ? './walk-thread.ts' : './walk-thread.js', import.meta.url)

/** Walks along segment files, on this thread. */
export const walkInOrder = async ({ chain, heads, keys, files }: WalkOrder): Promise<Walked> => {
  const publicKeys = new Map<string, KeyObject>(
    keys.map(({ kid, jwk }) => [kid, createPublicKey({ key: jwk as JsonWebKey, format: 'jwk' })]),
  )
  const walk = new ChainWalk({
    chain,
    heads,
    verifySignature: (kid, bytes, signature) => {
      const key = publicKeys.get(kid)
      return key !== undefined && verifyEs256(key, bytes, signature)
    },
  })
  await walkFiles(walk, files)
  return walk.finish()
}

/** Walks along segment files on a thread of its own. */
export const walkOnThread = async (order: WalkOrder): Promise<Walked> => {
  const worker = new Worker(workerFile, { workerData: order })
  try {
    const [walked] = (await once(worker, 'message')) as [Walked]
    return walked
  } finally {
    await worker.terminate()
  }
}

/** Walks along a chain wherever the store keeps it. @param keys every checkpoint key of the installation */
export const walkStore =
  (store: AuditStore, keys: readonly VerificationKey[]): WalkChain =>
  async (known) => {
    const files = await store.segments?.(known.chain.node)
    return files === undefined
      ? walkTables(store)(known)
      : walkOnThread({ chain: known.chain, heads: known.heads ?? [], keys, files })
  }
