import { createHash } from 'node:crypto'
import { calculateJwkThumbprint, decodeProtectedHeader, EmbeddedJWK, errors, type JWK, jwtVerify } from 'jose'
import { z } from 'zod'
import type { Clock } from '#clock'
import { type DeputyError, refuse } from '#errors'
import { type Fingerprint, Secret } from '#foundation/crypto'
import type { ReplayStore } from '#foundation/store'

/** A key that a request proves to have. */
export interface ProvedKey {
  readonly jkt: string
}

/** Which key a token request proves to have. @throws DeputyError `proof_invalid`, `proof_nonce_needed` */
export type CheckProof = (proof: string) => Promise<ProvedKey>

/** A request with an access token, as a protected resource received it. */
export interface ResourceRequest {
  readonly proof: string
  readonly method: string
  /** Under which URLs the resource may have been called. */
  readonly urls: readonly string[]
  readonly token: Secret
}

/** Which key a request with an access token proves to have. @throws DeputyError `proof_invalid`, `proof_nonce_needed` */
export type CheckResourceProof = (request: ResourceRequest) => Promise<ProvedKey>

/** Only asymmetric algorithms (RFC 9449 section 4.2). */
export const PROOF_ALGORITHMS = ['ES256', 'ES384', 'EdDSA', 'PS256', 'RS256']
const MAX_PROOF_LENGTH = 8192
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
  ath: z.string().optional(),
})
type ProofClaims = z.output<typeof claimsSchema>

export interface ProofCheckOptions {
  /** Whether a proof must contain a nonce of Deputy, so that proofs cannot be prepared ahead of time. */
  readonly needsNonce: () => boolean
  readonly replays: ReplayStore
  readonly fingerprint: Fingerprint
  readonly clock: Clock
}

const invalid = (problem: string, cause?: unknown): DeputyError => refuse('proof_invalid', { problem }, cause)

/** Scheme and host in small letters, the path normalised, without query and fragment (RFC 9449 section 4.3, 9). */
const normalised = (url: string): string | undefined => {
  const parsed = URL.parse(url)
  return parsed === null ? undefined : `${parsed.origin}${parsed.pathname}`
}

/** The public key in the header of a proof. @throws DeputyError `proof_invalid` */
const publicKeyOf = (proof: string): JWK => {
  if (proof.length > MAX_PROOF_LENGTH) throw invalid(`it is longer than ${MAX_PROOF_LENGTH} characters`)
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
  return jwk
}

const whyNotSigned = (error: unknown): string => {
  if (error instanceof errors.JWSSignatureVerificationFailed) return 'it is not signed by the key that it shows'
  return error instanceof errors.JOSEAlgNotAllowed ? 'its algorithm is not allowed' : 'it is malformed'
}

/** The claims of a proof that the key in its header has signed. @param now ms since the epoch */
const signedClaims = async (proof: string, now: number): Promise<ProofClaims> => {
  let payload: unknown
  try {
    ;({ payload } = await jwtVerify(proof, EmbeddedJWK, {
      algorithms: PROOF_ALGORITHMS,
      typ: 'dpop+jwt',
      currentDate: new Date(now),
      clockTolerance: AHEAD,
    }))
  } catch (error) {
    throw invalid(whyNotSigned(error), error)
  }
  const claims = claimsSchema.safeParse(payload)
  if (!claims.success)
    throw invalid(`its claim ${String(claims.error.issues[0]?.path[0] ?? '')} is missing or malformed`)
  return claims.data
}

/** `ath` (RFC 9449 section 4.2): the proof is for this access token. */
const hashOf = (token: Secret): string => createHash('sha256').update(token.reveal(), 'ascii').digest('base64url')

/** What a proof has to be for. */
interface Expected {
  readonly method: string
  readonly urls: readonly string[]
  /** The name of the URLs in a refusal. */
  readonly place: string
  readonly token?: Secret
}

const assertIsFor = ({ htm, htu, ath }: ProofClaims, { method, urls, place, token }: Expected): void => {
  if (htm !== method) throw invalid(`its htm is not ${method}`)
  const shown = normalised(htu)
  if (shown === undefined || !urls.some((url) => normalised(url) === shown))
    throw invalid(`its htu is not the ${place}`)
  if (token !== undefined && ath !== hashOf(token)) throw invalid('its ath is not the hash of the access token')
}

/** Section 4.3, in the order that leaves the claim of `jti` for last: a proof that is refused for another reason is not used up. */
const check = async (options: ProofCheckOptions, proof: string, expected: Expected): Promise<ProvedKey> => {
  const { clock, fingerprint, replays, needsNonce } = options
  const now = clock.now()
  const jwk = publicKeyOf(proof)
  const claims = await signedClaims(proof, now)
  assertIsFor(claims, expected)
  const { jti, iat, nonce } = claims
  if (iat > now / 1000 + AHEAD || iat < now / 1000 - WINDOW)
    throw invalid('it was made too long ago, or is from the future')
  const nonceOf = (period: number): string => fingerprint(new Secret(`dpop-nonce/${period}`))
  const period = Math.floor(now / NONCE_PERIOD)
  if (needsNonce() && nonce !== nonceOf(period) && nonce !== nonceOf(period - 1))
    throw refuse('proof_nonce_needed', { nonce: nonceOf(period) })
  const jkt = await calculateJwkThumbprint(jwk, 'sha256')
  if (!(await replays.claim(`dpop ${jkt}`, jti, now + (WINDOW + AHEAD) * 1000))) throw invalid('it was used before')
  return { jkt }
}

/**
 * Checks DPoP proofs of token requests (RFC 9449 section 4.3), each for one request.
 * @param options.urls under which the token endpoint is known
 */
export const createProofCheck =
  (options: ProofCheckOptions & { readonly urls: () => readonly string[] }): CheckProof =>
  (proof) =>
    check(options, proof, { method: 'POST', urls: options.urls(), place: 'token endpoint' })

/**
 * Checks DPoP proofs of requests with an access token (RFC 9449 section 7.1) for the MCP server that received them. A proof is
 * accepted once over all nodes. The caller compares the key with that of the token.
 */
export const createResourceProofCheck =
  (options: ProofCheckOptions): CheckResourceProof =>
  ({ proof, method, urls, token }) =>
    check(options, proof, { method, urls, place: 'URL of the request', token })
