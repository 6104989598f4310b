import { mkdir, readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { LRUCache } from 'lru-cache'
import { z } from 'zod'
import type { Random } from '../clock.ts'
import { DeputyError, refuse } from '../errors.ts'
import { decrypt, encrypt } from './aead.ts'
import { lengthPrefixed } from './additional-data.ts'
import type { Envelope, RecordName } from './envelope.ts'
import type { KeyEncryptionKey } from './key-encryption-key.ts'
import { createFile, replaceFile, syncFolder } from './private-file.ts'
import { Secret } from './secret.ts'

const wrappedKeySchema = z.strictObject({ key: z.string().regex(/^[0-9a-f]{16}$/), kek: z.string(), wrapped: z.base64() })

interface DataKey { readonly id: Buffer; readonly bytes: Uint8Array }

const VERSION = 1
const ID = 8
const nameOf = ({ tenant, kind, id }: RecordName): Buffer => lengthPrefixed(tenant, kind, id)
const bindingOf = (tenant: string, key: string): Buffer => lengthPrefixed('data-key', tenant, key)

/**
 * The data keys of the tenants, one wrapped key a file in a folder of its own. They are kept out of the store on
 * purpose: a backup of the store holds ciphertexts only, so that destroying a tenant's key file makes the tenant's
 * records unreadable in every backup as well (docs/decisions/0003-data-keys.md).
 *
 * Ciphertexts are `version (1) | key id (8) | nonce (12) | ciphertext | tag (16)`.
 */
export class Keyring implements Envelope {
  readonly #folder: string
  readonly #random: Random
  #kek: KeyEncryptionKey
  readonly #keys = new LRUCache<string, DataKey>({ max: 20_000 })
  /** Work on one tenant's key is done one after the other: a key is made once, and never made while it is destroyed. */
  readonly #turns = new Map<string, Promise<unknown>>()

  private constructor(folder: string, kek: KeyEncryptionKey, random: Random) {
    this.#folder = folder
    this.#kek = kek
    this.#random = random
  }

  /** @param folder where the wrapped keys are; made with mode 0700 if it is missing */
  static async open(options: { folder: string; kek: KeyEncryptionKey; random: Random }): Promise<Keyring> {
    await mkdir(options.folder, { recursive: true, mode: 0o700 })
    return new Keyring(options.folder, options.kek, options.random)
  }

  async seal(name: RecordName, plaintext: Secret): Promise<Uint8Array> {
    const key = this.#keys.get(name.tenant) ?? await this.#turn(name.tenant, async () => await this.#load(name.tenant) ?? await this.#create(name.tenant))
    return Buffer.concat([Buffer.of(VERSION), key.id, encrypt(key.bytes, Buffer.from(plaintext.reveal()), nameOf(name), this.#random)])
  }

  async open(name: RecordName, sealed: Uint8Array): Promise<Secret> {
    const key = this.#keys.get(name.tenant) ?? await this.#turn(name.tenant, () => this.#load(name.tenant))
    const bytes = Buffer.from(sealed.buffer, sealed.byteOffset, sealed.byteLength)
    if (key === undefined || bytes[0] !== VERSION || !key.id.equals(bytes.subarray(1, 1 + ID))) {
      throw refuse('secret_unreadable', { tenant: name.tenant })
    }
    try {
      return new Secret(decrypt(key.bytes, bytes.subarray(1 + ID), nameOf(name)).toString('utf8'))
    } catch (error) {
      throw refuse('secret_unreadable', { tenant: name.tenant }, error)
    }
  }

  /** Another node may have destroyed the key: it is read again when it is needed. */
  forget(tenant: string): void { this.#keys.delete(tenant) }

  destroy(tenant: string): Promise<void> {
    return this.#turn(tenant, async () => {
      this.#keys.delete(tenant)
      await rm(this.#path(tenant), { force: true })
      await syncFolder(this.#folder)
    })
  }

  /**
   * Wraps every data key anew under another key-encryption key. Each file is replaced whole, so that a kill at any
   * point leaves keys that the old or the new one opens; running it again finishes the work.
   * @returns how many were wrapped anew
   */
  async rewrap(kek: KeyEncryptionKey): Promise<number> {
    this.#kek = kek
    let count = 0
    for (const file of await readdir(this.#folder)) {
      if (!file.endsWith('.key')) continue
      const tenant = file.slice(0, -'.key'.length)
      await this.#turn(tenant, async () => {
        const stored = await this.#read(tenant)
        if (stored === undefined || (stored.kek === kek.id && !kek.hasVersions)) return
        const key = await this.#unwrap(tenant, stored)
        await this.#write(tenant, key)
        count += 1
      })
    }
    return count
  }

  #path(tenant: string): string { return join(this.#folder, `${tenant}.key`) }

  async #read(tenant: string): Promise<z.output<typeof wrappedKeySchema> | undefined> {
    let text
    try { text = await readFile(this.#path(tenant), 'utf8') } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
      throw refuse('secret_unreadable', { tenant }, error)
    }
    try { return wrappedKeySchema.parse(JSON.parse(text)) } catch (error) { throw refuse('secret_unreadable', { tenant }, error) }
  }

  async #unwrap(tenant: string, stored: z.output<typeof wrappedKeySchema>): Promise<DataKey> {
    try {
      const bytes = await this.#kek.unwrap(stored.kek, Buffer.from(stored.wrapped, 'base64'), bindingOf(tenant, stored.key))
      return { id: Buffer.from(stored.key, 'hex'), bytes }
    } catch (error) {
      // The service that has the key is away: nothing is wrong with what it wrapped.
      if (error instanceof DeputyError && error.kind.retryable) throw error
      throw refuse('secret_unreadable', { tenant }, error)
    }
  }

  async #load(tenant: string): Promise<DataKey | undefined> {
    const cached = this.#keys.get(tenant)
    if (cached !== undefined) return cached
    const stored = await this.#read(tenant)
    if (stored === undefined) return undefined
    const key = await this.#unwrap(tenant, stored)
    this.#keys.set(tenant, key)
    return key
  }

  async #create(tenant: string): Promise<DataKey> {
    const key: DataKey = { id: Buffer.from(this.#random.bytes(ID)), bytes: this.#random.bytes(32) }
    // Another node on the same folder may make one at the same moment: the first counts.
    if (!await createFile(this.#path(tenant), await this.#wrapped(tenant, key))) return await this.#load(tenant) ?? this.#create(tenant)
    this.#keys.set(tenant, key)
    return key
  }

  async #wrapped(tenant: string, key: DataKey): Promise<string> {
    const id = key.id.toString('hex')
    const wrapped = await this.#kek.wrap(key.bytes, bindingOf(tenant, id))
    return `${JSON.stringify({ key: id, kek: this.#kek.id, wrapped: Buffer.from(wrapped).toString('base64') })}\n`
  }

  async #write(tenant: string, key: DataKey): Promise<void> {
    await replaceFile(this.#path(tenant), await this.#wrapped(tenant, key))
  }

  #turn<T>(tenant: string, work: () => Promise<T>): Promise<T> {
    const turn = (this.#turns.get(tenant) ?? Promise.resolve()).then(work, work)
    this.#turns.set(tenant, turn)
    const over = (): void => { if (this.#turns.get(tenant) === turn) this.#turns.delete(tenant) }
    turn.then(over, over)
    return turn
  }
}
