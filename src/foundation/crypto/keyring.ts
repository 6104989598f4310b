import { createSecretKey, type KeyObject } from 'node:crypto'
import { readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { createLru } from '#foundation/lru'
import type { Random } from '#clock'
import { DeputyError, refuse } from '#errors'
import { createFile, makeFolders, replaceFile, syncFolder } from '#foundation/files'
import { decrypt, encrypt } from './aead.ts'
import { lengthPrefixed } from './additional-data.ts'
import { OWN_TENANT, type Envelope, type RecordName } from './envelope.ts'
import type { KeyEncryptionKey } from './key-encryption-key.ts'
import { keyFileText, parseKeyFile, type WrappedKey } from './key-file.ts'
import { Secret } from './secret.ts'

interface DataKey {
  readonly id: Buffer
  readonly bytes: Uint8Array
  /** The same: node:crypto makes one of bytes for each call, which takes twice as long as the call. */
  readonly key: KeyObject
}
/** A tenant's keys, the one that seals first, as the file had them. */
interface TenantKeys {
  readonly keys: readonly [DataKey, ...DataKey[]]
  readonly readAt: number
}

export interface KeyringOptions {
  /** Where the wrapped keys are. */
  readonly folder: string
  readonly kek: KeyEncryptionKey
  readonly random: Random
  /** ms, never going back; default: of this process */
  readonly monotonic?: () => number
  /**
   * Whether the store has records of a tenant that its key sealed. Where it has, a key whose file is missing is missing, and
   * none is made in its place. Absent where there is no store.
   */
  readonly hasRecords?: (tenant: string) => Promise<boolean>
}

/** How long it may take until another node seals under a key that was added here (ms). Earlier keys are needed for longer. */
export const KEY_READ_AGAIN = 60_000

const VERSION = 1
const ID = 8
const nameOf = ({ tenant, kind, id }: RecordName): Buffer => lengthPrefixed(tenant, kind, id)
const bindingOf = (tenant: string, key: string): Buffer => lengthPrefixed('data-key', tenant, key)

/**
 * The data keys of the tenants, wrapped, a tenant a file in a folder of its own. They are kept out of the store on
 * purpose: a backup of the store holds ciphertexts only, so that destroying a tenant's key file makes the tenant's
 * records unreadable in every backup as well (docs/decisions/0003-data-keys.md). While a tenant's key is replaced the file
 * has the earlier one too.
 *
 * Ciphertexts are `version (1) | key id (8) | nonce (12) | ciphertext | tag (16)`.
 */
export class Keyring implements Envelope {
  readonly #folder: string
  readonly #random: Random
  #kek: KeyEncryptionKey
  readonly #monotonic: () => number
  readonly #hasRecords: ((tenant: string) => Promise<boolean>) | undefined
  readonly #keys = createLru<string, TenantKeys>({ max: 20_000 })
  /** Work on one tenant's key is done one after the other: a key is made once, and never made while it is destroyed. */
  readonly #turns = new Map<string, Promise<unknown>>()

  private constructor(options: KeyringOptions) {
    this.#folder = options.folder
    this.#kek = options.kek
    this.#random = options.random
    this.#monotonic = options.monotonic ?? (() => performance.now())
    this.#hasRecords = options.hasRecords
  }

  /** The folder is made with mode 0700 if it is missing. */
  static async open(options: KeyringOptions): Promise<Keyring> {
    await makeFolders(options.folder)
    return new Keyring(options)
  }

  async seal(name: RecordName, plaintext: Secret): Promise<Uint8Array> {
    const {
      keys: [key],
    } =
      this.#fresh(name.tenant) ??
      (await this.#turn(name.tenant, async () => (await this.#load(name.tenant)) ?? (await this.#create(name.tenant))))
    return Buffer.concat([
      Buffer.of(VERSION),
      key.id,
      encrypt(key.key, Buffer.from(plaintext.reveal()), nameOf(name), this.#random),
    ])
  }

  async open(name: RecordName, sealed: Uint8Array): Promise<Secret> {
    const bytes = Buffer.from(sealed.buffer, sealed.byteOffset, sealed.byteLength)
    const find = (known: TenantKeys | undefined): DataKey | undefined =>
      known?.keys.find(({ id }) => id.equals(bytes.subarray(1, 1 + ID)))
    // Another node may have added the key a moment ago.
    const key =
      find(this.#fresh(name.tenant)) ??
      find(await this.#turn(name.tenant, () => this.#load(name.tenant, { anew: true })))
    if (key === undefined || bytes[0] !== VERSION) throw refuse('secret_unreadable', { tenant: name.tenant })
    try {
      return new Secret(decrypt(key.key, bytes.subarray(1 + ID), nameOf(name)).toString('utf8'))
    } catch (error) {
      throw refuse('secret_unreadable', { tenant: name.tenant }, error)
    }
  }

  /** Ids of a tenant's keys, the one that seals first; none: nothing was sealed for it yet, or its key was destroyed. */
  idsOf(tenant: string): Promise<string[]> {
    return this.#turn(
      tenant,
      async () => (await this.#load(tenant, { anew: true }))?.keys.map(({ id }) => id.toString('hex')) ?? [],
    )
  }

  /** Tenants that have a key. */
  async tenants(): Promise<string[]> {
    return (await readdir(this.#folder))
      .filter((file) => file.endsWith('.key'))
      .map((file) => file.slice(0, -'.key'.length))
  }

  /**
   * Adds a key that seals from now on; on other nodes after `KEY_READ_AGAIN` at the latest. Only one node may do so at a time.
   * @returns its id
   */
  addKey(tenant: string): Promise<string> {
    return this.#turn(tenant, async () => {
      const known = await this.#load(tenant, { anew: true })
      if (known === undefined) return (await this.#create(tenant)).keys[0].id.toString('hex')
      const key = this.#newKey()
      await this.#write(tenant, [key, ...known.keys])
      return key.id.toString('hex')
    })
  }

  /** Forgets every key but the one that seals: what is still sealed under them can be opened no more. */
  dropEarlierKeys(tenant: string): Promise<void> {
    return this.#turn(tenant, async () => {
      const known = await this.#load(tenant, { anew: true })
      if (known !== undefined && known.keys.length > 1) await this.#write(tenant, [known.keys[0]])
    })
  }

  /** Another node may have destroyed the key: it is read again when it is needed. */
  forget(tenant: string): void {
    this.#keys.delete(tenant)
  }

  destroy(tenant: string): Promise<void> {
    return this.#turn(tenant, async () => {
      await this.#assertMounted()
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
    for (const tenant of await this.tenants()) {
      await this.#turn(tenant, async () => {
        const text = await this.#read(tenant)
        const stored = text === undefined ? [] : this.#parse(tenant, text)
        if (stored.every((each) => each.kek === kek.id) && !kek.hasVersions) return
        const [key, ...earlier] = await Promise.all(stored.map((each) => this.#unwrap(tenant, each)))
        if (key === undefined) return
        await this.#write(tenant, [key, ...earlier])
        count += 1
      })
    }
    return count
  }

  #path(tenant: string): string {
    return join(this.#folder, `${tenant}.key`)
  }

  /** What is known of the tenant's keys, unless it has to be read again. */
  #fresh(tenant: string): TenantKeys | undefined {
    const known = this.#keys.get(tenant)
    return known !== undefined && this.#monotonic() - known.readAt < KEY_READ_AGAIN ? known : undefined
  }

  async #read(tenant: string): Promise<string | undefined> {
    try {
      return await readFile(this.#path(tenant), 'utf8')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
      throw this.#closed(
        tenant,
        `its file cannot be read (${(error as NodeJS.ErrnoException).code ?? 'unknown'})`,
        error,
      )
    }
  }

  /** The one that seals first. */
  #parse(tenant: string, text: string): WrappedKey[] {
    try {
      return [...parseKeyFile(text)]
    } catch (error) {
      throw this.#closed(tenant, 'its file is damaged', error)
    }
  }

  /** What it encrypts is not lost. Where the file is, only admins read. */
  #closed(tenant: string, problem: string, cause?: unknown): DeputyError {
    const details = `Check ${this.#path(tenant)}: its owner and mode, and put it back from a backup where it is damaged.`
    return refuse('data_key_unavailable', { tenant, problem, details }, cause)
  }

  #missing(tenant: string): DeputyError {
    const where = `Look whether the folder ${this.#folder} is mounted and the right one, and put ${tenant}.key back there.`
    const lost = `If the key is lost for good, deputy tenant destroy ${tenant} gives up what it sealed.`
    const details = `${where} No other key was made.${tenant === OWN_TENANT ? '' : ` ${lost}`}`
    return refuse('data_key_unavailable', { tenant, problem: 'its file is missing', details })
  }

  /**
   * A folder that is empty where the store is not is not mounted, or another one. Then no key was destroyed, whatever is missing.
   * Deputy's own key is never destroyed, so its file tells.
   */
  async #assertMounted(): Promise<void> {
    if (this.#hasRecords === undefined || (await this.#read(OWN_TENANT)) !== undefined) return
    if (await this.#hasRecords(OWN_TENANT)) throw this.#missing(OWN_TENANT)
  }

  async #unwrap(tenant: string, stored: WrappedKey): Promise<DataKey> {
    if (!this.#kek.knows(stored.kek))
      throw refuse('data_key_unavailable', {
        tenant,
        problem: 'a key-encryption key has wrapped it that deputy.yaml does not name',
        details: `It is ${stored.kek}. Name that key under kek or kek_earlier in deputy.yaml; a key file may hold it on a further line.`,
      })
    try {
      const bytes = await this.#kek.unwrap(
        stored.kek,
        Buffer.from(stored.wrapped, 'base64'),
        bindingOf(tenant, stored.key),
      )
      return { id: Buffer.from(stored.key, 'hex'), bytes, key: createSecretKey(bytes) }
    } catch (error) {
      // The key service is away, or refuses: nothing is wrong with what it wrapped.
      if (error instanceof DeputyError) throw error
      throw refuse('secret_unreadable', { tenant }, error)
    }
  }

  async #load(tenant: string, { anew = false } = {}): Promise<TenantKeys | undefined> {
    const fresh = anew ? undefined : this.#fresh(tenant)
    if (fresh !== undefined) return fresh
    const known = this.#keys.get(tenant)
    const readAt = this.#monotonic()
    // A folder that cannot be read for a moment takes nothing away from what was read before.
    const found = async (): Promise<string | undefined> => {
      const text = await this.#read(tenant)
      if (text === undefined) await this.#assertMounted()
      return text
    }
    const text = await found().catch((error: unknown) => {
      if (known === undefined) throw error
      return known
    })
    if (typeof text === 'object') return text
    if (text === undefined) {
      this.#keys.delete(tenant)
      return undefined
    }
    // Keys that were opened stay open: a key service that is away is not asked for them again.
    const opened = (stored: WrappedKey): DataKey | undefined =>
      known?.keys.find(({ id }) => id.toString('hex') === stored.key)
    const [first, ...earlier] = await Promise.all(
      this.#parse(tenant, text).map(async (stored) => opened(stored) ?? (await this.#unwrap(tenant, stored))),
    )
    const loaded: TenantKeys = { keys: [first!, ...earlier], readAt }
    this.#keys.set(tenant, loaded)
    return loaded
  }

  #newKey(): DataKey {
    const bytes = this.#random.bytes(32)
    return { id: Buffer.from(this.#random.bytes(ID)), bytes, key: createSecretKey(bytes) }
  }

  /** @throws DeputyError `data_key_unavailable` where records of the tenant are sealed under a key that is not there */
  async #create(tenant: string): Promise<TenantKeys> {
    if ((await this.#hasRecords?.(tenant)) === true) {
      // Another node may have made its key, and a first record under it, since the file was looked for.
      const made = await this.#load(tenant, { anew: true })
      if (made === undefined) throw this.#missing(tenant)
      return made
    }
    const key = this.#newKey()
    const text = await this.#wrapped(tenant, [key])
    // Another node on the same folder may make one at the same moment: the first counts.
    if (!(await createFile(this.#path(tenant), text)))
      return (await this.#load(tenant, { anew: true })) ?? this.#create(tenant)
    return this.#keep(tenant, [key])
  }

  #keep(tenant: string, keys: TenantKeys['keys']): TenantKeys {
    const kept = { keys, readAt: this.#monotonic() }
    this.#keys.set(tenant, kept)
    return kept
  }

  async #wrapped(tenant: string, keys: TenantKeys['keys']): Promise<string> {
    const [first, ...earlier] = await Promise.all(
      keys.map(async (key): Promise<WrappedKey> => {
        const id = key.id.toString('hex')
        const wrapped = await this.#kek.wrap(key.bytes, bindingOf(tenant, id))
        return { key: id, kek: wrapped.id, wrapped: Buffer.from(wrapped.bytes).toString('base64') }
      }),
    )
    return keyFileText([first!, ...earlier])
  }

  async #write(tenant: string, keys: TenantKeys['keys']): Promise<void> {
    await replaceFile(this.#path(tenant), await this.#wrapped(tenant, keys))
    this.#keep(tenant, keys)
  }

  #turn<T>(tenant: string, work: () => Promise<T>): Promise<T> {
    const turn = (this.#turns.get(tenant) ?? Promise.resolve()).then(work, work)
    this.#turns.set(tenant, turn)
    const over = (): void => {
      if (this.#turns.get(tenant) === turn) this.#turns.delete(tenant)
    }
    turn.then(over, over)
    return turn
  }
}
