import { createLocalJWKSet, errors, type FlattenedJWSInput, type JWSHeaderParameters } from 'jose'
import { z } from 'zod'
import type { Clock } from '../clock.ts'
import type { TrustedIssuer } from '../config/tenant.ts'
import type { Egress } from '../egress/egress.ts'
import { refuse } from '../errors.ts'
import type { ReadIssuerMetadata } from './issuer-metadata.ts'

const jwksSchema = z.looseObject({ keys: z.array(z.looseObject({ kty: z.string() })).max(100) })

/** ms: how long keys are used unasked, how long after that in an outage, and how often an unknown key may cause a read. */
const FRESH = 600_000
const STALE = 86_400_000
const COOLDOWN = 10_000

type Keys = ReturnType<typeof createLocalJWKSet>
interface Kept {
  readonly keys: Keys
  readonly readAt: number
}

/**
 * The keys of issuers. A token signed by an unknown key makes them be read anew, so a rotation is followed at once,
 * but not more often than every ten seconds, so that made-up key ids cannot be used to flood the issuer. When the
 * issuer is down, the keys read before stay good for a day.
 */
export const createIssuerKeys = (options: { egress: Egress; clock: Clock; metadata: ReadIssuerMetadata }) => {
  const kept = new Map<string, Kept>()
  const underWay = new Map<string, Promise<Kept>>()
  const triedAt = new Map<string, number>()

  const read = async (url: string): Promise<Kept> => {
    const response = await options.egress(url, { headers: { accept: 'application/jwk-set+json, application/json' } })
    if (!response.ok) throw new Error(`the key set answered ${response.status}`)
    return { keys: createLocalJWKSet(jwksSchema.parse(await response.json())), readAt: options.clock.now() }
  }

  const readOnce = (url: string): Promise<Kept> => {
    let reading = underWay.get(url)
    if (reading === undefined) {
      triedAt.set(url, options.clock.now())
      reading = read(url)
        .then((fresh) => {
          kept.set(url, fresh)
          return fresh
        })
        .finally(() => {
          underWay.delete(url)
        })
      underWay.set(url, reading)
    }
    return reading
  }

  const mayRead = (url: string): boolean =>
    underWay.has(url) || options.clock.now() - (triedAt.get(url) ?? -Infinity) >= COOLDOWN

  const keysOf = async (issuer: TrustedIssuer): Promise<{ url: string; held: Kept }> => {
    const url = issuer.jwks_uri ?? (await options.metadata(issuer.issuer)).jwks_uri
    if (url === undefined)
      throw refuse(
        'issuer_unreachable',
        { issuer: issuer.issuer, seconds: 60 },
        new Error('its metadata names no key set'),
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
      throw refuse('issuer_unreachable', { issuer: issuer.issuer, seconds: COOLDOWN / 1000 })
    }
    try {
      return { url, held: await readOnce(url) }
    } catch (error) {
      if (usable !== undefined) return { url, held: usable }
      throw refuse('issuer_unreachable', { issuer: issuer.issuer, seconds: COOLDOWN / 1000 }, error)
    }
  }

  /** A key function for `jose.jwtVerify`. */
  return (issuer: TrustedIssuer) => async (header: JWSHeaderParameters, token: FlattenedJWSInput) => {
    const { url, held } = await keysOf(issuer)
    try {
      return await held.keys(header, token)
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey) || !mayRead(url)) throw error
      const fresh = await readOnce(url).catch(() => undefined)
      if (fresh === undefined) throw error
      return fresh.keys(header, token)
    }
  }
}
export type IssuerKeys = ReturnType<typeof createIssuerKeys>
