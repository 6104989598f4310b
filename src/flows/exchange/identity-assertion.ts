import type { Random } from '#clock'
import type { Tenant } from '#config'
import { refuse } from '#errors'
import type { AuditLog } from '#foundation/audit'
import type { Rates } from '#foundation/cache'
import type { Secret } from '#foundation/crypto'
import type { SigningKeys } from '#foundation/keys'
import type { ReplayStore } from '#foundation/store'
import { earliestIssueOf, LEEWAY, tokenIdOf } from '#identity/subject'
import {
  assertStillValid,
  assertThawed,
  type CredentialDependencies,
  type ValidityDependencies,
} from '#identity/validity'
import type { CheckClientSecret } from '#identity/workload'
import { signAccessToken } from './access-token.ts'
import type { IssuedToken } from './issue.ts'
import {
  type AssertionDependencies,
  type IdentityAssertionRequest,
  invalidAssertion,
  type VerifiedAssertion,
  verifyAssertion,
} from './verify-assertion.ts'
import { withAudit } from './with-audit.ts'

export type { IdentityAssertionRequest } from './verify-assertion.ts'

interface RedemptionDependencies extends AssertionDependencies, ValidityDependencies {
  readonly checkSecret: CheckClientSecret
  readonly keys: SigningKeys
  readonly replays: ReplayStore
  readonly rates: Pick<Rates, 'admit' | 'isRepeated'>
  readonly audit: AuditLog
  readonly random: Random
}

/** What the audit record of a redemption names, as far as the request got. */
interface Named {
  tenant?: string
  user?: string
  server?: string
}

/** An issued token, with everything that its validity depends on. */
interface Redeemed {
  readonly issued: IssuedToken
  readonly dependsOn: CredentialDependencies
  /** Of the configuration with which the request began. */
  readonly generation: number
  /** The issuer of the assertion. */
  readonly issuer: string
  readonly scopes: readonly string[]
  readonly tokenId: string
  readonly ancestor: string
}

/** The tenants that have the client. @throws DeputyError `client_unverified` */
const authenticate = async (
  deps: RedemptionDependencies,
  clientId: string,
  secret: Secret,
): Promise<readonly Tenant[]> => {
  const tenants: Tenant[] = []
  let isKnown = false
  for (const tenant of deps.snapshot().tenants.values()) {
    const client = tenant.enabled
      ? tenant.identity_assertions?.clients.find((each) => each.client_id === clientId)
      : undefined
    if (client === undefined) continue
    isKnown = true
    if (await deps.checkSecret(secret, client.client_secret.scrypt, clientId)) tenants.push(tenant)
  }
  // An unknown id takes as long as a wrong secret.
  if (!isKnown) await deps.checkSecret(secret, undefined, clientId)
  if (tenants.length === 0) throw refuse('client_unverified', { client: clientId.slice(0, 100) })
  return tenants
}

/** Asks the rate limits, and claims the assertion: it is redeemed once. @throws DeputyError `rate_limited`, `frozen`, `assertion_invalid` */
const admit = async (deps: RedemptionDependencies, verified: VerifiedAssertion): Promise<void> => {
  const { claims, tenant, issuer, server, user } = verified
  assertThawed(tenant.tenant, deps)
  await deps.rates.admit('server', [server.server])
  await deps.rates.admit('tenant', [tenant.tenant])
  await deps.rates.admit('user', [tenant.tenant, user])
  const realm = `id-jag ${tenant.tenant} ${issuer.issuer}`
  if (!(await deps.replays.claim(realm, claims.jti, (claims.exp + LEEWAY) * 1000)))
    throw invalidAssertion('it was redeemed before')
}

/** Signs the access token (RFC 9068): the client is its actor, and the assertion its ancestor. */
const issueFor = (
  deps: RedemptionDependencies,
  request: IdentityAssertionRequest,
  { claims, tenant: { tenant }, issuer, server, user }: VerifiedAssertion,
): Omit<Redeemed, 'generation'> => {
  const { authorization_details: details } = claims
  const allowed = claims.scope?.split(' ').filter((scope) => scope !== '') ?? []
  const scopes = allowed.filter((scope) => request.scopes?.includes(scope) ?? true)
  const ancestor = tokenIdOf(issuer.issuer, claims.jti)
  const { tokenId, issued } = signAccessToken(deps, {
    subject: user,
    client: request.clientId,
    tenant,
    server,
    scopes,
    ancestors: [ancestor],
    claims: {
      ...(details === undefined ? {} : { authorization_details: details }),
      act: { sub: request.clientId, client_id: request.clientId },
    },
  })
  return {
    dependsOn: {
      tenant,
      user,
      server: server.server,
      downstreams: [],
      tokens: [tokenId, ancestor],
      since: earliestIssueOf(claims.iat),
    },
    issuer: issuer.issuer,
    scopes,
    tokenId,
    ancestor,
    issued: { ...issued, ...(details === undefined ? {} : { authorizationDetails: details }) },
  }
}

/** The steps of a redemption. @param named gets what the audit record names */
const redeem = async (
  deps: RedemptionDependencies,
  request: IdentityAssertionRequest,
  tenants: readonly Tenant[],
  named: Named,
): Promise<Redeemed> => {
  // Before keys are fetched and signatures checked for it.
  await deps.rates.admit('client', [request.clientId])
  const { generation } = deps.snapshot()
  const verified = await verifyAssertion(deps, request, tenants)
  Object.assign(named, { tenant: verified.tenant.tenant, user: verified.user, server: verified.server.server })
  await admit(deps, verified)
  const redeemed = { ...issueFor(deps, request, verified), generation }
  assertStillValid(redeemed.dependsOn, deps, generation)
  return redeemed
}

/** Whether the files still accept this issuer's assertions from this client. @throws DeputyError `client_unverified` */
const assertAccepted = (deps: RedemptionDependencies, clientId: string, { dependsOn, issuer }: Redeemed): void => {
  const accepted = deps.snapshot().tenants.get(dependsOn.tenant)?.identity_assertions
  if (accepted?.issuers.includes(issuer) !== true || !accepted.clients.some((each) => each.client_id === clientId))
    throw refuse('client_unverified', { client: clientId })
}

/**
 * Deputy as the resource's side of enterprise-managed authorization (section 4.4): an MCP client redeems an identity assertion of a
 * company's identity provider for an access token (RFC 9068) of one registered MCP server. No refresh token comes with it. The client
 * stands in `act`, because it acts for the user, and the assertion in `anc`: a revocation of either, of the issuer or of the user voids the token.
 */
export const createIdentityAssertions =
  (deps: RedemptionDependencies) =>
  /** @throws DeputyError `client_unverified`, `assertion_invalid`, and those that refuse the user */
  async (request: IdentityAssertionRequest): Promise<IssuedToken> => {
    // A caller that is not a client leaves no record: the endpoint is public, and such callers could fill the log.
    const tenants = await authenticate(deps, request.clientId, request.clientSecret)
    const named: Named = {}
    const record = { id: request.correlationId, event: 'token.identity_assertion' } as const
    const { issued } = await withAudit(deps, {
      steps: () => redeem(deps, request, tenants, named),
      issued: ({ scopes, tokenId, ancestor }) => ({
        ...record,
        outcome: 'issued',
        ...named,
        detail: { client: request.clientId, scopes, token: tokenId, subject: { ancestor } },
      }),
      refused: ({ code, message, next }) => ({
        ...record,
        outcome: 'refused',
        ...named,
        ...(named.tenant === undefined && tenants.length === 1 ? { tenant: tenants[0]!.tenant } : {}),
        detail: { client: request.clientId, error: { code, message, next } },
      }),
      assertValid: (redeemed) => {
        assertStillValid(redeemed.dependsOn, deps, redeemed.generation)
        assertAccepted(deps, request.clientId, redeemed)
      },
    })
    return issued
  }
export type RedeemIdentityAssertion = ReturnType<typeof createIdentityAssertions>
