import { createPrivateKey, createPublicKey, generateKeyPair, sign, verify, type KeyObject } from 'node:crypto'
import { promisify } from 'node:util'
import { calculateJwkThumbprint, type JWK } from 'jose'
import { z } from 'zod'
import type { Clock } from '#clock'
import { type Envelope, OWN_TENANT, Secret, signEs256, verifyEs256 } from '#foundation/crypto'
import type { SigningKeyStore, StoredSigningKey } from '#foundation/store'

export type SigningPurpose = StoredSigningKey['purpose']

interface SigningKey {
  readonly stored: StoredSigningKey
  readonly privateKey: KeyObject
  readonly publicKey: KeyObject
}

/** Keys of checkpoints are never withdrawn: an old chain must stay verifiable. */
const FOREVER = Number.MAX_SAFE_INTEGER

const generate = promisify(generateKeyPair)
const es256 = {
  algorithm: 'ES256',
  make: () => generate('ec', { namedCurve: 'P-256' }),
  sign: signEs256,
  verify: verifyEs256,
} as const
const rs256 = {
  algorithm: 'RS256',
  make: () => generate('rsa', { modulusLength: 2048 }),
  sign: (key: KeyObject, bytes: Uint8Array) => sign('sha256', bytes, key),
  verify: (key: KeyObject, bytes: Uint8Array, signature: Uint8Array) => verify('sha256', bytes, key, signature),
} as const
/** What signs what. Clouds are told by RS256: it is all that Microsoft supports (https://learn.microsoft.com/en-us/entra/workload-id/workload-identity-federation-considerations). */
const FORMS = {
  token: es256,
  checkpoint: es256,
  client: es256,
  cloud: rs256,
} as const satisfies Record<SigningPurpose, typeof es256 | typeof rs256>
const PURPOSES = Object.keys(FORMS) as SigningPurpose[]

/**
 * Deputy's own keys. A next key is published before it signs, so that services that cache the key set have it in
 * time, and the last one stays published until everything that it signed has expired.
 */
export class SigningKeys {
  readonly #options: SigningKeysOptions
  #keys: SigningKey[]

  private constructor(options: SigningKeysOptions, keys: SigningKey[]) {
    this.#options = options
    this.#keys = keys
  }

  static async open(options: SigningKeysOptions): Promise<SigningKeys> {
    const keys: SigningKey[] = []
    for (const stored of await options.store.list()) keys.push(await unseal(stored, options.envelope))
    const opened = new SigningKeys(options, keys)
    await opened.rotateWhenDue()
    return opened
  }

  /** Signs with the key in force (RFC 7518 sections 3.3 and 3.4). */
  sign(purpose: SigningPurpose, bytes: Uint8Array): { kid: string; signature: Buffer } {
    const { stored, privateKey } = this.#inForce(purpose)
    return { kid: stored.kid, signature: FORMS[purpose].sign(privateKey, bytes) }
  }

  /** The `kid` that the next signature will carry; the header must name it before there is something to sign. */
  kid(purpose: SigningPurpose): string {
    return this.#inForce(purpose).stored.kid
  }

  /** The `kid` in force of every purpose. */
  kids(): Readonly<Record<SigningPurpose, string>> {
    return Object.fromEntries(PURPOSES.map((purpose) => [purpose, this.kid(purpose)])) as Record<SigningPurpose, string>
  }

  /** `alg` of its signatures. */
  algorithm(purpose: SigningPurpose): 'ES256' | 'RS256' {
    return FORMS[purpose].algorithm
  }

  /** False for a key that is not, or no longer, published. */
  verify(purpose: SigningPurpose, kid: string, bytes: Uint8Array, signature: Uint8Array): boolean {
    const key = this.#published(purpose).find(({ stored }) => stored.kid === kid)
    return key !== undefined && FORMS[purpose].verify(key.publicKey, bytes, signature)
  }

  /** The published keys of these purposes as a JWK set (RFC 7517 section 5). */
  jwks(...purposes: readonly SigningPurpose[]): { keys: JWK[] } {
    return {
      // Out of the sealed private key, never out of the public part of the row: a writer of the store cannot publish a key.
      keys: purposes.flatMap((purpose) => this.#published(purpose).map(publicJwkOf)),
    }
  }

  /** Takes over what other nodes on the same store have made, ended or withdrawn. */
  async refresh(): Promise<void> {
    const listed = await this.#options.store.list()
    const known = new Map(this.#keys.map((key) => [key.stored.kid, key]))
    const keys: SigningKey[] = []
    for (const stored of listed) {
      const key = known.get(stored.kid)
      keys.push(
        key === undefined
          ? await unseal(stored, this.#options.envelope)
          : { ...key, stored: { ...stored, purpose: key.stored.purpose } },
      )
    }
    this.#keys = keys
  }

  /** Makes, publishes ahead and withdraws keys as their times come; call it now and then. `force` starts a new key that signs at once. */
  async rotateWhenDue(force = false): Promise<void> {
    const now = this.#options.clock.now()
    for (const purpose of PURPOSES) {
      const last = this.#keys.filter(({ stored }) => stored.purpose === purpose).at(-1)
      const ahead = Math.min(this.#options.lifetime / 10, 86_400_000)
      if (force || last === undefined || last.stored.signsUntil - ahead <= now) {
        if (force) await this.#endSigning(purpose, now)
        const startsAt = force || last === undefined ? now : Math.max(now, last.stored.signsUntil)
        await this.#add(purpose, startsAt, now)
      }
    }
    for (const { stored } of this.#keys) {
      if (stored.publishedUntil <= now) await this.#options.store.remove(stored.kid)
    }
    this.#keys = this.#keys.filter(({ stored }) => stored.publishedUntil > now)
  }

  async #add(purpose: SigningPurpose, startsAt: number, now: number): Promise<void> {
    const { privateKey, publicKey } = await FORMS[purpose].make()
    const jwk = publicKey.export({ format: 'jwk' }) as JWK
    const kid = await calculateJwkThumbprint(jwk)
    const signsUntil = startsAt + this.#options.lifetime
    const stored: StoredSigningKey = {
      kid,
      purpose,
      createdAt: now,
      signsUntil,
      publicJwk: { ...jwk, kid, alg: FORMS[purpose].algorithm, use: 'sig' },
      publishedUntil: purpose === 'checkpoint' ? FOREVER : signsUntil + this.#options.longestToken,
      sealed: await this.#options.envelope.seal(
        recordName(kid),
        new Secret(JSON.stringify({ ...privateKey.export({ format: 'jwk' }), [PURPOSE]: purpose })),
      ),
    }
    await this.#options.store.put(stored)
    this.#keys = [...this.#keys, { stored, privateKey, publicKey }]
  }

  /** Keys that still sign stop now; what they have signed stays verifiable until it has expired. */
  async #endSigning(purpose: SigningPurpose, now: number): Promise<void> {
    const ended: SigningKey[] = []
    for (const key of this.#keys) {
      if (key.stored.purpose !== purpose || key.stored.signsUntil <= now) {
        ended.push(key)
        continue
      }
      const stored = {
        ...key.stored,
        signsUntil: now,
        publishedUntil: purpose === 'checkpoint' ? FOREVER : now + this.#options.longestToken,
      }
      await this.#options.store.put(stored)
      ended.push({ ...key, stored: { ...stored, purpose: key.stored.purpose } })
    }
    this.#keys = ended
  }

  #published(purpose: SigningPurpose): SigningKey[] {
    const now = this.#options.clock.now()
    return this.#keys.filter(({ stored }) => stored.purpose === purpose && stored.publishedUntil > now)
  }

  /** The key whose time to sign ends first among those that still sign: one published ahead waits for its turn. */
  #inForce(purpose: SigningPurpose): SigningKey {
    const now = this.#options.clock.now()
    const usable = this.#published(purpose)
    const key = usable.find(({ stored }) => stored.signsUntil > now) ?? usable.at(-1)
    if (key === undefined) throw new Error(`no signing key for ${purpose}`)
    return key
  }
}

export interface SigningKeysOptions {
  readonly store: SigningKeyStore
  readonly envelope: Envelope
  readonly clock: Clock
  /** How long a key signs, ms. */
  readonly lifetime: number
  /** How long a key stays published after its last signature, ms: the longest life of a token, and some more. */
  readonly longestToken: number
}

const publicJwkOf = ({ stored: { kid, purpose }, publicKey }: SigningKey): JWK => ({
  ...(publicKey.export({ format: 'jwk' }) as JWK),
  kid,
  alg: FORMS[purpose].algorithm,
  use: 'sig',
})

/**
 * The member of the sealed key that says what it is for: who can write the store gives a key no other purpose. Keys of
 * earlier versions have none.
 */
const PURPOSE = 'deputy_purpose'
const sealedKeySchema = z.looseObject({ [PURPOSE]: z.enum(PURPOSES).optional() })

const recordName = (kid: string) => ({ tenant: OWN_TENANT, kind: 'signing-key', id: kid })

const unseal = async (stored: StoredSigningKey, envelope: Envelope): Promise<SigningKey> => {
  const secret = await envelope.open(recordName(stored.kid), stored.sealed)
  const { [PURPOSE]: purpose = stored.purpose, ...key } = sealedKeySchema.parse(JSON.parse(secret.reveal()))
  const privateKey = createPrivateKey({ format: 'jwk', key: key as JsonWebKeyInput })
  return { stored: { ...stored, purpose }, privateKey, publicKey: createPublicKey(privateKey) }
}
type JsonWebKeyInput = Parameters<typeof createPrivateKey>[0] extends infer T
  ? T extends { format: 'jwk'; key: infer K }
    ? K
    : never
  : never
