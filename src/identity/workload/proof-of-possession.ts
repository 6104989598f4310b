import { calculateJwkThumbprint, decodeProtectedHeader, EmbeddedJWK, errors, jwtVerify } from 'jose'
import { z } from 'zod'
import type { Clock } from '#clock'
import { refuse } from '#errors'
import { type Fingerprint, Secret } from '#foundation/crypto'
import type { ReplayStore } from '#foundation/store'

/** Which key a request proves to have. @throws DeputyError `proof_invalid`, `proof_nonce_needed` */
export type CheckProof = (proof: string) => Promise<{ readonly jkt: string }>

/** Asymmetric ones alone (RFC 9449 section 4.2). */
export const PROOF_ALGORITHMS = ['ES256', 'ES384', 'EdDSA', 'PS256', 'RS256']
const LONGEST_PROOF = 8192
/** How old a proof may be, and how far its clock may be ahead (seconds). */
const WINDOW = 60
const AHEAD = 30
/** A nonce is good for between one and two of these (ms). */
const NONCE_PERIOD = 300_000
/** What only a private or a symmetric key has. */
const PRIVATE = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k']

const claimsSchema = z.looseObject({
  jti: z.string().min(1).max(256),
  htm: z.string(),
  htu: z.string(),
  iat: z.number(),
  nonce: z.string().optional(),
})

/** Scheme and host in small letters, the path normalised, without query and fragment (RFC 9449 section 4.3, 9). */
const normalised = (url: string): string | undefined => {
  const parsed = URL.parse(url)
  return parsed === null ? undefined : `${parsed.origin}${parsed.pathname}`
}

/**
 * Checks DPoP proofs of token requests (RFC 9449 section 4.3), each for one request.
 * @param options.urls under which the token endpoint is known
 * @param options.needsNonce whether a proof has to carry a nonce of ours, so that none can be made ahead of time
 */
export const createProofCheck = (options: {
  readonly urls: () => readonly string[]
  readonly needsNonce: () => boolean
  readonly replays: ReplayStore
  readonly fingerprint: Fingerprint
  readonly clock: Clock
}): CheckProof => {
  const invalid = (problem: string, cause?: unknown): Error => refuse('proof_invalid', { problem }, cause)
  const nonceOf = (period: number): string => options.fingerprint(new Secret(`dpop-nonce/${period}`))

  return async (proof) => {
    if (proof.length > LONGEST_PROOF) throw invalid(`it is longer than ${LONGEST_PROOF} characters`)
    const now = options.clock.now()
    let header
    try {
      header = decodeProtectedHeader(proof)
    } catch (error) {
      throw invalid('it is no JWT', error)
    }
    const { jwk } = header
    if (header.typ !== 'dpop+jwt') throw invalid('its type is not dpop+jwt')
    if (jwk === undefined || PRIVATE.some((field) => field in jwk))
      throw invalid('its header has no public key, or one that is not public')
    let payload: unknown
    try {
      ;({ payload } = await jwtVerify(proof, EmbeddedJWK, {
        algorithms: PROOF_ALGORITHMS,
        typ: 'dpop+jwt',
        currentDate: new Date(now),
        clockTolerance: AHEAD,
      }))
    } catch (error) {
      throw invalid(
        error instanceof errors.JWSSignatureVerificationFailed
          ? 'it is not signed by the key that it shows'
          : error instanceof errors.JOSEAlgNotAllowed
            ? 'its algorithm is not allowed'
            : 'it is malformed',
        error,
      )
    }
    const claims = claimsSchema.safeParse(payload)
    if (!claims.success)
      throw invalid(`its claim ${String(claims.error.issues[0]?.path[0] ?? '')} is missing or malformed`)
    const { jti, htm, htu, iat, nonce } = claims.data
    if (htm !== 'POST') throw invalid('its htm is not POST')
    const shown = normalised(htu)
    if (shown === undefined || !options.urls().some((url) => normalised(url) === shown))
      throw invalid('its htu is not the token endpoint')
    if (iat > now / 1000 + AHEAD || iat < now / 1000 - WINDOW)
      throw invalid('it was made too long ago, or is from the future')
    const period = Math.floor(now / NONCE_PERIOD)
    if (options.needsNonce() && nonce !== nonceOf(period) && nonce !== nonceOf(period - 1))
      throw refuse('proof_nonce_needed', { nonce: nonceOf(period) })
    const jkt = await calculateJwkThumbprint(jwk, 'sha256')
    if (!(await options.replays.claim(`dpop ${jkt}`, jti, now + (WINDOW + AHEAD) * 1000)))
      throw invalid('it was used before')
    return { jkt }
  }
}
