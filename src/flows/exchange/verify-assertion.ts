import { decodeJwt, type JWTPayload } from 'jose'
import { z } from 'zod'
import type { Clock } from '#clock'
import { type CurrentSnapshot, type Server, servesTenant, type Tenant, type TrustedIssuer } from '#config'
import { DeputyError, refuse } from '#errors'
import { type Secret, verifyByAnyKey } from '#foundation/crypto'
import { type IssuerKeys, LEEWAY, tenantOf, userOf } from '#identity/subject'
import { isInUse } from '#identity/workload'

/** A request of an MCP client at the public token endpoint. Nothing of it is believed yet. */
export interface IdentityAssertionRequest {
  readonly clientId: string
  readonly clientSecret: Secret
  readonly assertion: Secret
  readonly scopes?: readonly string[]
  /** `resource` of the request, where it names one in addition to the assertion. */
  readonly resource?: string
  readonly correlationId: string
}

/** draft-ietf-oauth-identity-assertion-authz-grant-03 section 3.1. The audience is one text: an assertion for several servers is refused. */
const claimsSchema = z.looseObject({
  iss: z.string(),
  aud: z.string(),
  client_id: z.string(),
  jti: z.string().min(1).max(512),
  iat: z.number(),
  exp: z.number().max(253_402_300_799),
  resource: z.string().or(z.tuple([z.string()]).transform(([only]) => only)),
  scope: z.string().optional(),
  aud_tenant: z.string().min(1).max(256).optional(),
  aud_sub: z.string().min(1).max(256).optional(),
  /** RFC 9396 section 2. */
  authorization_details: z
    .array(z.looseObject({ type: z.string().min(1).max(200) }))
    .min(1)
    .max(20)
    .optional(),
})
type AssertionClaims = z.output<typeof claimsSchema>

/** The longest assertion that is read, in characters. */
const MAX_ASSERTION_LENGTH = 16_384

export interface AssertionDependencies {
  readonly snapshot: CurrentSnapshot
  readonly issuer: () => string
  readonly issuerKeys: IssuerKeys
  readonly clock: Clock
}

/** What an assertion proves: which user of which tenant, for which server. */
export interface VerifiedAssertion {
  readonly claims: AssertionClaims
  readonly tenant: Tenant
  readonly issuer: TrustedIssuer
  readonly server: Server
  readonly user: string
}

/** The refusal of an assertion. */
export const invalidAssertion = (problem: string): DeputyError => refuse('assertion_invalid', { problem })

/** Turns a refusal of a subject token into one of an assertion. */
const asInvalid = <T>(work: () => T): T => {
  try {
    return work()
  } catch (error) {
    throw error instanceof DeputyError ? invalidAssertion(error.message.replace(/\.$/, '')) : error
  }
}

const readUnverified = (text: string): JWTPayload => {
  if (text.length > MAX_ASSERTION_LENGTH) throw invalidAssertion(`it is longer than ${MAX_ASSERTION_LENGTH} characters`)
  try {
    return decodeJwt(text)
  } catch {
    throw invalidAssertion('it is no JWT')
  }
}

/** Whether an assertion that names the tenant at Deputy means this one. */
const isAudienceTenant = ({ aud_tenant: named }: JWTPayload, { tenant, identity_assertions: taken }: Tenant): boolean =>
  named === undefined || named === (taken?.aud_tenant ?? tenant)

/** The user of an assertion. `aud_sub` is Deputy's own name for the user, as the identity provider has it. */
const userIn = (claims: AssertionClaims, { identity_assertions: taken }: Tenant, issuer: TrustedIssuer): string => {
  const { aud_sub: named } = claims
  if (named !== undefined && taken?.user_from === 'aud_sub') {
    const asIs: TrustedIssuer = { ...issuer, claims: { ...issuer.claims, user: 'aud_sub' } }
    return asInvalid(() => userOf(claims, asIs))
  }
  const user = asInvalid(() => userOf(claims, issuer))
  if (named !== undefined && named !== user)
    throw invalidAssertion(
      'its aud_sub names another user than its issuer does, and the tenant does not take users from aud_sub',
    )
  return user
}

/** A server that does not know a detail would let through what the detail forbids. @throws DeputyError `authorization_details_unknown` */
const assertDetailsKnown = ({ authorization_details: details = [] }: AssertionClaims, server: Server): void => {
  const unknown = details.find(({ type }) => !server.authorization_details_types.includes(type))
  if (unknown !== undefined)
    throw refuse('authorization_details_unknown', { type: unknown.type, server: server.server })
}

/** The tenant and issuer of an assertion, among the tenants whose client calls. Its claims are not believed yet. */
const issuerOf = (unverified: JWTPayload, tenants: readonly Tenant[]) => {
  const trusting = tenants.flatMap((tenant) =>
    tenant.issuers
      .filter(({ issuer }) => issuer === unverified.iss && tenant.identity_assertions!.issuers.includes(issuer))
      .filter(() => isAudienceTenant(unverified, tenant))
      .map((issuer) => ({ tenant, issuer })),
  )
  if (trusting.length === 0) throw invalidAssertion('Deputy accepts no assertions of its issuer from this client')
  return asInvalid(() => tenantOf(unverified, trusting))
}

/** The claims of an assertion that its issuer signed for Deputy and this client, and that is valid now. */
const verifyClaims = async (
  { issuer, issuerKeys, clock }: AssertionDependencies,
  { assertion, clientId, resource }: IdentityAssertionRequest,
  trusted: TrustedIssuer,
): Promise<AssertionClaims> => {
  const verified = await verifyByAnyKey(assertion.reveal(), issuerKeys(trusted), {
    issuer: trusted.issuer,
    audience: issuer(),
    typ: 'oauth-id-jag+jwt',
    algorithms: [...trusted.algorithms],
    clockTolerance: LEEWAY,
    currentDate: new Date(clock.now()),
  }).catch((error: unknown) => {
    throw error instanceof DeputyError
      ? error
      : invalidAssertion('its type, signature, audience or times are not as they should be')
  })
  const parsed = claimsSchema.safeParse(verified.payload)
  if (!parsed.success)
    throw invalidAssertion(`its claim ${String(parsed.error.issues[0]?.path[0] ?? '')} is missing or malformed`)
  const claims = parsed.data
  const now = clock.now() / 1000
  if (claims.exp <= now || claims.iat - LEEWAY > now) throw invalidAssertion('it has expired, or is not valid yet')
  // Section 9.8: only who has the key may redeem it, and that is not checked here.
  if (claims['cnf'] !== undefined) throw invalidAssertion('it is bound to a key, which Deputy does not check')
  if (claims.client_id !== clientId) throw invalidAssertion('it is for another client')
  if (resource !== undefined && resource !== claims.resource) throw invalidAssertion('it is for another resource')
  return claims
}

/**
 * Verifies an identity assertion of one of the tenants whose client calls (section 4.4.1).
 * @throws DeputyError `assertion_invalid`, those of issuers that do not answer
 */
export const verifyAssertion = async (
  deps: AssertionDependencies,
  request: IdentityAssertionRequest,
  tenants: readonly Tenant[],
): Promise<VerifiedAssertion> => {
  const { tenant, issuer } = issuerOf(readUnverified(request.assertion.reveal()), tenants)
  const claims = await verifyClaims(deps, request, issuer)
  const server = [...deps.snapshot().servers.values()].find(
    (each) => each.resource === claims.resource && isInUse(each) && servesTenant(each.tenants, tenant.tenant),
  )
  if (server === undefined) throw invalidAssertion('its resource is no MCP server of the tenant')
  assertDetailsKnown(claims, server)
  return { claims, tenant, issuer, server, user: userIn(claims, tenant, issuer) }
}
