import type { JWTPayload } from 'jose'
import type { Server } from '#config'
import { DeputyError, refuse } from '#errors'
import type { Secret } from '#foundation/crypto'
import type { SubjectClaims } from './claims.ts'
import type { SubjectDependencies, SubjectRequest } from './dependencies.ts'
import { verifyIssuerJwt } from './issuer-jwt.ts'
import { isVerifiableType, MAX_TOKEN_LENGTH } from './token-text.ts'
import type { Trust, Trusting } from './trust.ts'

type Bad = (problem: string, cause?: unknown) => DeputyError

/** The claims of an actor token that an issuer of the tenant signed. @throws DeputyError `actor_token_invalid`, and what is retryable */
const issuerClaims = async (
  deps: SubjectDependencies,
  actorToken: Secret,
  { server, tenant }: { readonly server: Server; readonly tenant: string },
  bad: Bad,
): Promise<SubjectClaims> => {
  const text = actorToken.reveal()
  if (text.length > MAX_TOKEN_LENGTH) throw bad(`it is longer than ${MAX_TOKEN_LENGTH} characters`)
  const ofTenant = ({ iss }: JWTPayload, trust: Trust): Trusting => {
    const trusted = trust.of(iss).find((candidate) => candidate.tenant.tenant === tenant)
    if (trusted === undefined) throw bad('it is of another tenant')
    return trusted
  }
  try {
    return (await verifyIssuerJwt(deps, text, server, ofTenant)).claims
  } catch (error) {
    if (error instanceof DeputyError && (error.code === 'actor_token_invalid' || error.kind.retryable)) throw error
    throw bad('its signature, times or issuer are not accepted', error)
  }
}

/** The acting party: the subject of a verified actor token, else the attested server. @throws DeputyError `actor_token_invalid` */
export const actingParty = async (
  deps: SubjectDependencies,
  { actorToken, actorTokenType, server }: SubjectRequest,
  tenant: string,
): Promise<string> => {
  if (actorToken === undefined) return server.server
  const bad: Bad = (problem, cause) => refuse('actor_token_invalid', { problem, server: server.server }, cause)
  if (!isVerifiableType(actorTokenType)) throw bad('its type is not supported')
  const minted = deps.readMintedToken(actorToken)
  if (minted !== undefined) {
    if (minted.sub !== server.server || minted.tenant !== tenant || minted.act !== undefined)
      throw bad('it is not about the calling server')
    return minted.sub
  }
  const { aud, sub, client_id: clientId } = await issuerClaims(deps, actorToken, { server, tenant }, bad)
  // It is addressed to Deputy, which exchanges it, or to the server that it is about (RFC 8693 section 2.1).
  if (!aud.some((audience) => audience === deps.ownIssuer() || audience === server.resource))
    throw bad('its audience is neither Deputy nor the calling server')
  if (sub !== server.server && clientId !== server.server) throw bad('it is not about the calling server')
  return sub ?? server.server
}
