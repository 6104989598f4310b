import { z } from 'zod'
import type { Clock } from '#clock'
import { urlSchema } from '#config'
import { type Egress, struck, told } from '#foundation/outbound'
import { IssuerFault, readIssuerJson, refusalOfFault } from './issuer-answer.ts'

const metadataSchema = z.looseObject({
  issuer: z.string(),
  jwks_uri: urlSchema.optional(),
  introspection_endpoint: urlSchema.optional(),
})
export type IssuerMetadata = z.output<typeof metadataSchema>

/** How long metadata is used before it is read again, and how long after that when the issuer does not answer (ms). */
const FRESH_MS = 3_600_000
const MAX_STALE_MS = 86_400_000
/** How long an issuer that did not answer is left alone (ms). */
const COOLDOWN = 5_000

/** Where the metadata of an issuer can be, in the order of the MCP specification (RFC 8414 section 3.1, OpenID Connect Discovery 4). */
export const metadataUrls = (issuer: string): string[] => {
  const url = new URL(issuer)
  const path = url.pathname.replace(/\/$/, '')
  const inserted = (name: string): string => `${url.origin}/.well-known/${name}${path}`
  const candidates = [
    inserted('oauth-authorization-server'),
    inserted('openid-configuration'),
    `${url.origin}${path}/.well-known/openid-configuration`,
  ]
  return [...new Set(candidates)]
}

/** @throws IssuerFault */
const parse = (answer: unknown, issuer: string, url: string): IssuerMetadata => {
  const parsed = metadataSchema.safeParse(answer)
  if (!parsed.success)
    throw new IssuerFault(`its metadata at ${url} has no usable ${String(parsed.error.issues[0]?.path[0] ?? 'form')}`, {
      reached: true,
      answered: told(JSON.stringify(answer)),
    })
  // RFC 8414 section 3.3: the issuer in the document must be the one that the URL was built from, to the letter.
  if (parsed.data.issuer !== issuer)
    throw new IssuerFault(`its metadata at ${url} names ${struck(parsed.data.issuer)}, the tenant's file ${issuer}`, {
      reached: true,
    })
  return parsed.data
}

const NOT_THERE = / answered 40[34]$/

/** Of what went wrong at several places, that which says most: an answer that is wrong, then no answer, then nothing there. */
const worse = (one: unknown, other: unknown): unknown => {
  const rank = (fault: unknown): number =>
    !(fault instanceof IssuerFault) ? 0 : !fault.reached ? 2 : NOT_THERE.test(fault.message) ? 1 : 3
  return rank(other) > rank(one) ? other : one
}

/**
 * Reads and keeps the metadata of issuers. An issuer that is down is survived on what was read before; concurrent
 * readers share one request.
 */
export const createIssuerMetadata = (options: { egress: Egress; clock: Clock }) => {
  const known = new Map<string, { metadata: IssuerMetadata; readAt: number }>()
  const underWay = new Map<string, Promise<IssuerMetadata>>()
  const failedAt = new Map<string, number>()
  const failures = new Map<string, unknown>()

  const read = async (issuer: string): Promise<IssuerMetadata> => {
    let problem: unknown
    for (const url of metadataUrls(issuer)) {
      try {
        return parse(await readIssuerJson(options.egress, url, 'its metadata'), issuer, url)
      } catch (error) {
        problem = worse(problem, error)
        // Where nothing answers, the other places at the same server do not either: they would cost a timeout each.
        if (error instanceof IssuerFault && !error.reached && error.answered === undefined) break
      }
    }
    throw problem
  }

  const readOnce = (issuer: string): Promise<IssuerMetadata> => {
    let reading = underWay.get(issuer)
    if (reading === undefined) {
      reading = read(issuer)
        .then(
          (metadata) => {
            known.set(issuer, { metadata, readAt: options.clock.now() })
            failedAt.delete(issuer)
            return metadata
          },
          (error: unknown) => {
            failedAt.set(issuer, options.clock.now())
            failures.set(issuer, error)
            throw error
          },
        )
        .finally(() => {
          underWay.delete(issuer)
        })
      underWay.set(issuer, reading)
    }
    return reading
  }

  return async (issuer: string): Promise<IssuerMetadata> => {
    const now = options.clock.now()
    const kept = known.get(issuer)
    if (kept !== undefined && now - kept.readAt < FRESH_MS) return kept.metadata
    const usable = kept !== undefined && now - kept.readAt < MAX_STALE_MS ? kept.metadata : undefined
    if (now - (failedAt.get(issuer) ?? -Infinity) < COOLDOWN) {
      if (usable !== undefined) return usable
      throw refusalOfFault(issuer, failures.get(issuer), COOLDOWN / 1000)
    }
    const reading = readOnce(issuer)
    // Once a reading has failed, the next ones run in the background: requests do not wait for an issuer that is down.
    if (usable !== undefined && failedAt.has(issuer)) {
      reading.catch(() => undefined)
      return usable
    }
    try {
      return await reading
    } catch (error) {
      if (usable !== undefined) return usable
      throw refusalOfFault(issuer, error, COOLDOWN / 1000)
    }
  }
}
export type ReadIssuerMetadata = ReturnType<typeof createIssuerMetadata>
