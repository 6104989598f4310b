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

/** Whose keys. */
type KeyIssuer = Pick<TrustedIssuer, 'issuer' | 'jwks_uri'>

const jwksSchema = z.looseObject({ keys: z.array(z.unknown()) })
const keySchema = z.looseObject({ kty: z.string() })
/** So many keys of a set are looked at. */
const MAX_KEYS = 100

/** ms: how long keys are used unasked, how long after that in an outage, and how often an unknown key may cause a read. */
const FRESH = 600_000
const STALE = 86_400_000
const COOLDOWN = 10_000

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

type Keys = ReturnType<typeof createLocalJWKSet>
interface Kept {
  readonly keys: Keys
  readonly readAt: number
}

/**
 * The keys of issuers. A token signed by an unknown key, or not by the key that it names, makes them be read anew, so a rotation is followed at once,
 * but not more often than every ten seconds, so that made-up key ids cannot be used to flood the issuer. When the
 * issuer is down, the keys read before stay good for a day.
 */
export const createIssuerKeys = (options: { egress: Egress; clock: Clock; metadata: ReadIssuerMetadata }) => {
  const kept = new Map<string, Kept>()
  const underWay = new Map<string, Promise<Kept>>()
  const triedAt = new Map<string, number>()
  const failures = new Map<string, unknown>()

  const read = async (url: string): Promise<Kept> => {
    const answer = await readIssuerJson(options.egress, url, 'its key set', {
      headers: { accept: 'application/jwk-set+json, application/json' },
    })
    const set = jwksSchema.safeParse(answer)
    if (!set.success)
      throw new IssuerFault(`its key set at ${url} has no keys`, {
        reached: true,
        answered: told(JSON.stringify(answer)),
      })
    // One entry that is no key says nothing about the others.
    const keys = set.data.keys.flatMap((entry) => keySchema.safeParse(entry).data ?? []).slice(0, MAX_KEYS)
    return { keys: createLocalJWKSet({ keys }), readAt: options.clock.now() }
  }

  const readOnce = (url: string): Promise<Kept> => {
    let reading = underWay.get(url)
    if (reading === undefined) {
      triedAt.set(url, options.clock.now())
      reading = read(url)
        .then(
          (fresh) => {
            kept.set(url, fresh)
            failures.delete(url)
            return fresh
          },
          (error: unknown) => {
            failures.set(url, error)
            throw error
          },
        )
        .finally(() => {
          underWay.delete(url)
        })
      underWay.set(url, reading)
    }
    return reading
  }

  const mayRead = (url: string): boolean =>
    underWay.has(url) || options.clock.now() - (triedAt.get(url) ?? -Infinity) >= COOLDOWN

  const keysOf = async (issuer: KeyIssuer): Promise<{ url: string; held: Kept }> => {
    const url = issuer.jwks_uri ?? (await options.metadata(issuer.issuer)).jwks_uri
    if (url === undefined)
      throw refusalOfFault(
        issuer.issuer,
        new IssuerFault('its metadata names no key set (jwks_uri)', { reached: true }),
        60,
      )
    const held = kept.get(url)
    const age = held === undefined ? Infinity : options.clock.now() - held.readAt
    if (held !== undefined && age < FRESH) return { url, held }
    const usable = held !== undefined && age < STALE ? held : undefined
    // Once a reading has failed, the next ones go on in the background: nobody waits for an issuer that is down.
    if (usable !== undefined && (triedAt.get(url) ?? 0) > usable.readAt) {
      if (mayRead(url)) readOnce(url).catch(() => undefined)
      return { url, held: usable }
    }
    if (!mayRead(url)) {
      if (usable !== undefined) return { url, held: usable }
      throw refusalOfFault(issuer.issuer, failures.get(url), COOLDOWN / 1000)
    }
    try {
      return { url, held: await readOnce(url) }
    } catch (error) {
      if (usable !== undefined) return { url, held: usable }
      throw refusalOfFault(issuer.issuer, error, COOLDOWN / 1000)
    }
  }

  const keyFor = async (issuer: KeyIssuer, header: JWSHeaderParameters, token: FlattenedJWSInput) => {
    const { url, held } = await keysOf(issuer)
    try {
      return await held.keys(header, token)
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey)) throw error
      if (!mayRead(url)) {
        if (isOlder(token, held.readAt)) throw error
        // Its issuer may have begun to sign with a new key since then.
        const left = (triedAt.get(url) ?? 0) + COOLDOWN - options.clock.now()
        throw refuse(
          'issuer_key_unknown',
          { issuer: issuer.issuer, seconds: Math.max(1, Math.ceil(left / 1000)) },
          error,
        )
      }
      const fresh = await readOnce(url).catch(() => undefined)
      if (fresh === undefined) throw error
      return fresh.keys(header, token)
    }
  }

  /** A signature that is not of a key of this `kid`: the issuer may have replaced the key under the same name. */
  const reread = async (issuer: KeyIssuer): Promise<boolean> => {
    const { url } = await keysOf(issuer)
    return mayRead(url) && (await readOnce(url).catch(() => undefined)) !== undefined
  }

  /** A key function for `verifyByAnyKey`. */
  return (issuer: KeyIssuer): RereadableKeys =>
    Object.assign((header: JWSHeaderParameters, token: FlattenedJWSInput) => keyFor(issuer, header, token), {
      reread: () => reread(issuer),
    })
}
export type IssuerKeys = ReturnType<typeof createIssuerKeys>
