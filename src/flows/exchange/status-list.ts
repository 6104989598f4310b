import { promisify } from 'node:util'
import { deflate as deflateCallback } from 'node:zlib'
import { createLru } from '#foundation/lru'
import { z } from 'zod'
import { type Clock, toSeconds } from '#clock'
import { readListName, STATUS_LIST_BITS } from '#credentials/connector'
import { refuse } from '#errors'
import { downstreamsOfRecord, recordPages } from '#foundation/audit'
import { type SigningKeys, signJwt } from '#foundation/keys'
import type { AuditStore } from '#foundation/store'
import { isValid, type ValidityDependencies } from '#identity/validity'

const deflate = promisify(deflateCallback)

/** Seconds for which a list may be kept by who reads it, and after which it counts no more. */
const TTL = 15
const LIFETIME = 60
/** One answer serves all requests within this time (ms). */
const ANSWER_LIFETIME_MS = 500
const PAGE = 5000
/** Records are written a little after their tokens are minted (ms). */
const LATE = 60_000

const detailSchema = z.looseObject({
  detail: z.looseObject({
    subject: z.looseObject({ token: z.string() }).optional(),
    credential: z.looseObject({
      token_id: z.string(),
      ancestors: z.array(z.string()).default([]),
      status: z.strictObject({ list: z.string(), index: z.number(), iat: z.number() }),
    }),
  }),
})

/**
 * Status lists of minted tokens (draft-ietf-oauth-status-list): a bit for each token, 1 when it holds no more. The tokens of
 * a list are found in the audit log, where each of them was recorded before it left; so a list is right after
 * a restart and at every node, and issuing costs no write of its own.
 */
export const createStatusLists = (
  deps: ValidityDependencies & {
    readonly audit: Pick<AuditStore, 'query'>
    readonly keys: SigningKeys
    /** Where the lists are published; a list's URL is this and its name. */
    readonly baseUrl: () => string
    /** How long a list takes tokens, and how long the longest of them lives (ms). */
    readonly period: number
    readonly longestToken: () => number
    readonly clock: Clock
  },
) => {
  const kept = createLru<string, Promise<string>>({ max: 200, ttl: ANSWER_LIFETIME_MS })

  const bitsOf = async (name: string, node: string, startedAt: number): Promise<Uint8Array> => {
    const bits = new Uint8Array(STATUS_LIST_BITS / 8)
    const filter = { node, outcome: 'issued', since: startedAt, until: startedAt + deps.period + LATE }
    for await (const rows of recordPages(deps.audit, filter, PAGE))
      for (const row of rows) {
        const parsed = detailSchema.safeParse(JSON.parse(row.body))
        if (!parsed.success || row.tenant === null || row.server === null) continue
        const { credential, subject } = parsed.data.detail
        if (credential.status.list !== name) continue
        const live = isValid(
          {
            tenant: row.tenant,
            user: row.user ?? undefined,
            server: row.server,
            downstreams: downstreamsOfRecord(row),
            tokens: [credential.token_id, ...(subject === undefined ? [] : [subject.token]), ...credential.ancestors],
            since: credential.status.iat * 1000,
          },
          deps,
        )
        // The lowest bit of a byte is its first (section 4.1).
        if (!live) bits[credential.status.index >> 3]! |= 1 << (credential.status.index & 7)
      }
    return bits
  }

  const sign = async (name: string, node: string, startedAt: number): Promise<string> => {
    const list = await deflate(await bitsOf(name, node, startedAt), { level: 9 })
    const iat = toSeconds(deps.clock.now())
    const token = signJwt(
      deps.keys,
      { typ: 'statuslist+jwt' },
      {
        sub: `${deps.baseUrl()}/${name}`,
        iat,
        exp: iat + LIFETIME,
        ttl: TTL,
        status_list: { bits: 1, lst: list.toString('base64url') },
      },
    )
    // A node that may have missed a revocation cannot state which tokens are valid.
    deps.membership.assertHeld()
    return token
  }

  return {
    uriOf: (list: string): string => `${deps.baseUrl()}/${list}`,
    /** The signed list. @throws DeputyError `not_found` for one that never was or is over, `membership_lost` */
    async read(name: string): Promise<{ token: string; maxAge: number }> {
      const parts = readListName(name)
      const now = deps.clock.now()
      if (parts === undefined || parts.startedAt > now || parts.startedAt + deps.period + deps.longestToken() < now)
        throw refuse('not_found', { path: '/status' })
      let signed = kept.get(name)
      if (signed === undefined) {
        signed = sign(name, parts.node, parts.startedAt)
        kept.set(name, signed)
        signed.catch(() => {
          kept.delete(name)
        })
      }
      return { token: await signed, maxAge: TTL }
    },
  }
}
export type StatusLists = ReturnType<typeof createStatusLists>
