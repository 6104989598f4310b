import { createLocalJWKSet, errors, type FlattenedJWSInput, type JWSHeaderParameters } from 'jose'
import { z } from 'zod'
import type { Clock } from '#clock'
import type { TrustedIssuer } from '#config'
import { refuse } from '#errors'
import type { RereadableKeys } from '#foundation/crypto'
import { type Egress, told } from '#foundation/outbound'
import { IssuerFault, readIssuerJson, refusalOfFault } from './issuer-answer.ts'
import { LEEWAY } from './checks.ts'
import type { ReadIssuerMetadata } from './issuer-metadata.ts'

/** The issuer whose keys are read. */
type KeyIssuer = Pick<TrustedIssuer, 'issuer' | 'jwks_uri'>

const jwksSchema = z.looseObject({ keys: z.array(z.unknown()) })
const keySchema = z.looseObject({ kty: z.string() })
/** Keys of a set that are used at most. */
const MAX_KEYS = 100

/** A key set may be the bundle of a SPIFFE trust domain, whose keys say in other words that they sign (SPIFFE Trust Domain and Bundle section 4.2.2). */
const ofBundle = (key: z.output<typeof keySchema>): z.output<typeof keySchema> =>
  key['use'] === 'jwt-svid' ? { ...key, use: 'sig' } : key

/** Keys are used without reading them anew for this long. */
const FRESH_MS = 600_000
/** Keys are used for this long while the issuer does not answer. */
const MAX_STALE_MS = 86_400_000
/** An unknown key causes one read in this time. */
const COOLDOWN_MS = 10_000

/**
 * Whether a token does not say that it may have been issued after a moment (ms): then its key was there at that moment.
 * Not verified, and decides nothing but which error it is.
 */
const isOlder = ({ payload }: FlattenedJWSInput, at: number): boolean => {
  try {
    const claims: unknown = JSON.parse(Buffer.from(String(payload), 'base64url').toString('utf8'))
    const iat = z.object({ iat: z.number() }).safeParse(claims).data?.iat
    return iat === undefined || (iat + LEEWAY) * 1000 < at
  } catch {
    return true
  }
}

interface KeySet {
  readonly keys: ReturnType<typeof createLocalJWKSet>
  readonly readAt: number
}

/** The key sets that were read, by their URL. One read of a URL runs at a time, and one starts in ten seconds. */
class KeySets {
  readonly #egress: Egress
  readonly #clock: Clock
  readonly #read = new Map<string, KeySet>()
  readonly #underWay = new Map<string, Promise<KeySet>>()
  readonly #triedAt = new Map<string, number>()
  readonly #failures = new Map<string, unknown>()

  constructor({ egress, clock }: { readonly egress: Egress; readonly clock: Clock }) {
    this.#egress = egress
    this.#clock = clock
  }

  /** The set that was read last, with its age (ms). */
  lastOf(url: string): { readonly set: KeySet; readonly age: number; readonly failedSince: boolean } | undefined {
    const set = this.#read.get(url)
    if (set === undefined) return undefined
    return { set, age: this.#clock.now() - set.readAt, failedSince: (this.#triedAt.get(url) ?? 0) > set.readAt }
  }

  /** The error of the last read; undefined where it succeeded. */
  failureOf(url: string): unknown {
    return this.#failures.get(url)
  }

  /** Milliseconds until the next read may start. */
  pauseOf(url: string): number {
    return (this.#triedAt.get(url) ?? -Infinity) + COOLDOWN_MS - this.#clock.now()
  }

  mayRead(url: string): boolean {
    return this.#underWay.has(url) || this.pauseOf(url) <= 0
  }

  /** Reads a set, or joins the read that is under way. @throws IssuerFault */
  read(url: string): Promise<KeySet> {
    let reading = this.#underWay.get(url)
    if (reading === undefined) {
      this.#triedAt.set(url, this.#clock.now())
      reading = this.#fetch(url)
        .then(
          (fresh) => {
            this.#read.set(url, fresh)
            this.#failures.delete(url)
            return fresh
          },
          (error: unknown) => {
            this.#failures.set(url, error)
            throw error
          },
        )
        .finally(() => {
          this.#underWay.delete(url)
        })
      this.#underWay.set(url, reading)
    }
    return reading
  }

  async #fetch(url: string): Promise<KeySet> {
    const answer = await readIssuerJson(this.#egress, url, 'its key set', {
      headers: { accept: 'application/jwk-set+json, application/json' },
    })
    const set = jwksSchema.safeParse(answer)
    if (!set.success)
      throw new IssuerFault(`its key set at ${url} has no keys`, {
        reached: true,
        answered: told(JSON.stringify(answer)),
      })
    // An entry that is no key does not spoil the others.
    const keys = set.data.keys
      .flatMap((entry) => keySchema.safeParse(entry).data ?? [])
      .map(ofBundle)
      .slice(0, MAX_KEYS)
    return { keys: createLocalJWKSet({ keys }), readAt: this.#clock.now() }
  }
}

/**
 * The keys of issuers. A token that is signed by an unknown key, or not by the key that it names, causes a new read, so that
 * Deputy follows a rotation at once. Reads are ten seconds apart: made-up key ids cannot be used to flood the issuer. While the
 * issuer is down, the keys that were read before stay valid for a day.
 */
export const createIssuerKeys = (options: { egress: Egress; clock: Clock; metadata: ReadIssuerMetadata }) => {
  const sets = new KeySets(options)

  /** The set for an issuer: fresh, else read anew, else the last one for as long as it is usable. */
  const setOf = async (issuer: KeyIssuer): Promise<{ url: string; set: KeySet }> => {
    const url = issuer.jwks_uri ?? (await options.metadata(issuer.issuer)).jwks_uri
    if (url === undefined)
      throw refusalOfFault(
        issuer.issuer,
        new IssuerFault('its metadata names no key set (jwks_uri)', { reached: true }),
        60,
      )
    const last = sets.lastOf(url)
    if (last !== undefined && last.age < FRESH_MS) return { url, set: last.set }
    const usable = last !== undefined && last.age < MAX_STALE_MS ? last : undefined
    // Once a read has failed, the next reads run in the background: requests do not wait for an issuer that is down.
    if (usable?.failedSince === true) {
      if (sets.mayRead(url)) sets.read(url).catch(() => undefined)
      return { url, set: usable.set }
    }
    if (!sets.mayRead(url)) {
      if (usable !== undefined) return { url, set: usable.set }
      throw refusalOfFault(issuer.issuer, sets.failureOf(url), COOLDOWN_MS / 1000)
    }
    try {
      return { url, set: await sets.read(url) }
    } catch (error) {
      if (usable !== undefined) return { url, set: usable.set }
      throw refusalOfFault(issuer.issuer, error, COOLDOWN_MS / 1000)
    }
  }

  const keyFor = async (issuer: KeyIssuer, header: JWSHeaderParameters, token: FlattenedJWSInput) => {
    const { url, set } = await setOf(issuer)
    try {
      return await set.keys(header, token)
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey)) throw error
      if (!sets.mayRead(url)) {
        if (isOlder(token, set.readAt)) throw error
        // Its issuer may have begun to sign with a new key since then.
        throw refuse(
          'issuer_key_unknown',
          { issuer: issuer.issuer, seconds: Math.max(1, Math.ceil(sets.pauseOf(url) / 1000)) },
          error,
        )
      }
      const fresh = await sets.read(url).catch(() => undefined)
      if (fresh === undefined) throw error
      return fresh.keys(header, token)
    }
  }

  /** For a signature that is not of the key of its `kid`: the issuer may have replaced the key under the same name. */
  const reread = async (issuer: KeyIssuer): Promise<boolean> => {
    const { url } = await setOf(issuer)
    return sets.mayRead(url) && (await sets.read(url).catch(() => undefined)) !== undefined
  }

  /** A key function for `verifyByAnyKey`. */
  return (issuer: KeyIssuer): RereadableKeys =>
    Object.assign((header: JWSHeaderParameters, token: FlattenedJWSInput) => keyFor(issuer, header, token), {
      reread: () => reread(issuer),
    })
}
export type IssuerKeys = ReturnType<typeof createIssuerKeys>
