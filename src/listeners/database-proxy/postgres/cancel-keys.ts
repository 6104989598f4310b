import { timingSafeEqual } from 'node:crypto'
import type { Random } from '#clock'
import type { LoggedIn, PostgresAddress } from './login.ts'

/** With which a client, or Deputy at a server, cancels the query of a session. */
export interface CancelKey {
  readonly process: number
  readonly key: number
}

/** The session that a cancel key is for. */
export interface CancelTarget {
  /** Of the client: another user of the machine cannot cancel. */
  readonly uid: number | undefined
  readonly address: PostgresAddress
  /** The server's own key. */
  readonly upstream: NonNullable<LoggedIn['key']>
}

const bytesOf = (key: number): Buffer => {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(key | 0)
  return bytes
}

/** Deputy's own cancel keys in place of those of the servers: two servers may give the same one. */
export class CancelKeys {
  readonly #random: Random
  readonly #targets = new Map<number, CancelTarget & { readonly key: number }>()

  constructor(random: Random) {
    this.#random = random
  }

  add(target: CancelTarget): CancelKey {
    let process: number
    do process = Buffer.from(this.#random.bytes(4)).readUInt32BE() >>> 1
    while (this.#targets.has(process))
    const key = Buffer.from(this.#random.bytes(4)).readInt32BE()
    this.#targets.set(process, { ...target, key })
    return { process, key }
  }

  /** @param uid of the client that sends the key. @returns undefined for a key that is not that of one of its sessions */
  find({ process, key }: CancelKey, uid: number | undefined): CancelTarget | undefined {
    const found = this.#targets.get(process)
    return found !== undefined && found.uid === uid && timingSafeEqual(bytesOf(found.key), bytesOf(key))
      ? found
      : undefined
  }

  remove({ process }: CancelKey): void {
    this.#targets.delete(process)
  }
}
