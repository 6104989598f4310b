import { decodeJwt, decodeProtectedHeader, type JWTPayload } from 'jose'
import type { Clock } from '#clock'
import type { AgentToken, CurrentSnapshot, Snapshot } from '#config'
import { DeputyError, refuse } from '#errors'
import { type Fingerprint, refusedHeaderOf, type Secret, verifyByAnyKey } from '#foundation/crypto'
import type { ReplayStore } from '#foundation/store'
import { claimAt } from '#foundation/text'
import { type AgentClient, agentsIn } from '#identity/client'
import { earliestIssueOf, identify, type IssuerKeys, LEEWAY, presentClaims } from '#identity/subject'
import { type CheckClientSecret, clientOf, verifyAssertionOf } from '#identity/workload'

/** How an agent proves who it is. Nothing of it is believed yet. */
export type AgentEvidence =
  | { readonly clientId: string; readonly secret: Secret }
  | { readonly clientId?: string | undefined; readonly assertion: Secret }
  | { readonly clientId?: string | undefined; readonly token: Secret }

export interface AgentProofDependencies {
  readonly snapshot: CurrentSnapshot
  readonly issuer: () => string
  /** What a client assertion may name as its audience: the issuer first. */
  readonly audiences: () => readonly string[]
  readonly issuerKeys: IssuerKeys
  readonly checkSecret: CheckClientSecret
  readonly replays: ReplayStore
  readonly fingerprint: Fingerprint
  readonly clock: Clock
}

/** An agent that has proved who it is. */
export interface ProvedAgent {
  readonly client: AgentClient
  readonly how: 'client_secret' | 'private_key_jwt' | 'token'
  /** Of a token of another issuer. */
  readonly token?: { readonly id: string; readonly issuer: string; readonly subject: string }
  /** The earliest moment at which the proof can have been made (ms since the epoch). */
  readonly since: number
}

const MAX_TOKEN_LENGTH = 16_384
/** A token of another issuer ends within this time (s): Deputy cannot ask its issuer whether it was ended before. */
const MAX_TOKEN_LIFE_S = 86_400
/** Signed statements of other kinds do not pass for it (RFC 8725 section 3.11). SPIRE writes JOSE or JWT. */
const TYPES = new Set([undefined, 'jwt', 'jose', 'at+jwt', 'application/at+jwt'])

const invalid = (problem: string): DeputyError => refuse('agent_token_invalid', { problem })
const unverified = (id: string | undefined): DeputyError =>
  refuse('client_unverified', { client: id?.slice(0, 100) ?? 'without an id' })

/** A JWT as its text says, before its signature is checked. @throws DeputyError `agent_token_invalid` */
const readUnverified = (text: string): JWTPayload => {
  if (text.length > MAX_TOKEN_LENGTH) throw invalid(`it is longer than ${MAX_TOKEN_LENGTH} characters`)
  let header
  let claims: JWTPayload
  try {
    header = decodeProtectedHeader(text)
    claims = presentClaims(decodeJwt(text))
  } catch {
    throw invalid('it is no JWT')
  }
  const type: unknown = header.typ
  if (!TYPES.has(typeof type === 'string' ? type.toLowerCase() : (type as undefined)))
    throw invalid(`its type ${String(type).slice(0, 40)} is not that of such a token`)
  const refused = refusedHeaderOf(header)
  if (refused !== undefined) throw invalid(`its header carries ${refused}`)
  return claims
}

/** The one audience of a token. One for several could be shown to Deputy by any of them. */
const audienceOf = ({ aud }: JWTPayload): string | undefined => {
  const [only, another] = [aud ?? []].flat()
  return another === undefined ? only : undefined
}

const isSubject = (pattern: string, subject: string | undefined): boolean =>
  subject !== undefined &&
  (pattern.endsWith('*')
    ? subject.startsWith(pattern.slice(0, -1)) && subject.length >= pattern.length
    : subject === pattern)

/** Whether every setting fits the claims. */
const fits = (expected: AgentToken, claims: JWTPayload, ownIssuer: string): boolean =>
  claims.iss === expected.issuer &&
  audienceOf(claims) === (expected.audience ?? ownIssuer) &&
  isSubject(expected.subject, claims.sub) &&
  Object.entries(expected.claims).every(([name, value]) => {
    const claim = Object.hasOwn(claims, name) ? claims[name] : claimAt(claims, name)
    return claim === value
  })

/** The one agent whose file a token fits. @throws DeputyError `agent_token_invalid` when there is none, or more than one */
const matching = (
  claims: JWTPayload,
  {
    snapshot,
    ownIssuer,
    clientId,
  }: { readonly snapshot: Snapshot; readonly ownIssuer: string; readonly clientId?: string | undefined },
): { client: AgentClient; expected: AgentToken } => {
  const found = agentsIn(snapshot).flatMap((client) => {
    const expected = client.agent.tokens.find((each) => fits(each, claims, ownIssuer))
    return expected === undefined ? [] : [{ client, expected }]
  })
  const [only, another] = found
  if (only === undefined) throw invalid('it fits no agent')
  if (another !== undefined) throw invalid('it fits more than one agent')
  if (clientId !== undefined && clientId !== only.client.file.client)
    throw invalid('it is of another agent than client_id')
  return only
}

/** Signature and times, by the settings of the agent whose file the claims fit. @throws DeputyError `agent_token_invalid`, those of issuers that do not answer */
const verifyToken = async (
  { issuerKeys, clock }: AgentProofDependencies,
  text: string,
  expected: AgentToken,
): Promise<JWTPayload & { exp: number }> => {
  const { payload } = await verifyByAnyKey(text, issuerKeys(expected), {
    algorithms: expected.algorithms,
    issuer: expected.issuer,
    requiredClaims: ['exp', 'sub', 'aud'],
    clockTolerance: LEEWAY,
    currentDate: new Date(clock.now()),
  }).catch((error: unknown) => {
    throw error instanceof DeputyError ? error : invalid('its signature or its times are not as they should be')
  })
  const now = clock.now() / 1000
  const { exp, iat } = payload
  if (exp === undefined || exp <= now || (iat ?? 0) - LEEWAY > now) throw invalid('it has expired, or is not valid yet')
  if (exp - now > MAX_TOKEN_LIFE_S) throw invalid('it lasts for longer than a day')
  return { ...payload, exp }
}

const byToken = async (
  deps: AgentProofDependencies,
  token: Secret,
  clientId: string | undefined,
): Promise<ProvedAgent> => {
  const text = token.reveal()
  const claims = readUnverified(text)
  const { client, expected } = matching(claims, { snapshot: deps.snapshot(), ownIssuer: deps.issuer(), clientId })
  const { exp, iat, jti, sub } = await verifyToken(deps, text, expected)
  const { issuer } = expected
  const id = identify({ issuer, jti, token }, deps.fingerprint)
  if (!expected.reusable && !(await deps.replays.claim('agent token', id, (exp + LEEWAY) * 1000)))
    throw invalid('it was used before; ask for a new one, or set reusable where the platform gives no other')
  return {
    client,
    how: 'token',
    token: { id, issuer, subject: String(sub) },
    since: earliestIssueOf(iat),
  }
}

/** The agent that a client id names. */
const named = (id: string | undefined, { snapshot }: AgentProofDependencies): AgentClient | undefined =>
  agentsIn(snapshot()).find(({ file }) => file.client === id)

const bySecret = async (deps: AgentProofDependencies, clientId: string, secret: Secret): Promise<ProvedAgent> => {
  const client = named(clientId, deps)
  const authentication = client?.file.authentication
  const stored =
    authentication !== undefined && authentication !== 'none' && 'client_secret' in authentication
      ? authentication.client_secret.scrypt
      : undefined
  // An unknown id takes as long as a wrong secret.
  const isRight = await deps.checkSecret(secret, stored, clientId)
  if (client === undefined || stored === undefined || !isRight) throw unverified(clientId)
  return { client, how: 'client_secret', since: deps.clock.now() }
}

const byKey = async (
  deps: AgentProofDependencies,
  assertion: Secret,
  clientId: string | undefined,
): Promise<ProvedAgent> => {
  const text = assertion.reveal()
  const id = clientOf(text)
  const client = named(id, deps)
  const authentication = client?.file.authentication
  if (
    id === undefined ||
    (clientId !== undefined && clientId !== id) ||
    client === undefined ||
    authentication === undefined ||
    authentication === 'none' ||
    !('private_key_jwt' in authentication)
  )
    throw unverified(clientId ?? id)
  try {
    await verifyAssertionOf(
      text,
      { id, keySets: [authentication.private_key_jwt.jwks], realm: `client-assertion of client:${id}` },
      { audiences: deps.audiences(), replays: deps.replays, clock: deps.clock },
    )
  } catch (error) {
    throw error instanceof DeputyError && error.code === 'workload_unverified'
      ? refuse('client_unverified', { client: id }, error)
      : error
  }
  return { client, how: 'private_key_jwt', since: deps.clock.now() }
}

/**
 * Which agent asks: by its secret, by an assertion of its key (RFC 7523 section 2.2), or by a token of another issuer (section 2.1).
 * @throws DeputyError `client_unverified`, `agent_token_invalid`, those of issuers that do not answer
 */
export const proveAgent = (deps: AgentProofDependencies, evidence: AgentEvidence): Promise<ProvedAgent> => {
  if ('token' in evidence) return byToken(deps, evidence.token, evidence.clientId)
  if ('assertion' in evidence) return byKey(deps, evidence.assertion, evidence.clientId)
  return bySecret(deps, evidence.clientId, evidence.secret)
}
