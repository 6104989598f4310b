import { decodeJwt } from 'jose'
import { z } from 'zod'
import { type Clock, type Random, toSeconds } from '#clock'
import { type CurrentSnapshot, servesTenant, type Tenant } from '#config'
import { DeputyError, refuse } from '#errors'
import type { AuditLog } from '#foundation/audit'
import type { Rates } from '#foundation/cache'
import { randomText, Secret, verifyByAnyKey } from '#foundation/crypto'
import { type SigningKeys, signJwt } from '#foundation/keys'
import type { ReplayStore } from '#foundation/store'
import { earliestIssueOf, type IssuerKeys, LEEWAY, tenantOf, tokenIdOf, userOf } from '#identity/subject'
import {
  assertStillValid,
  assertThawed,
  type CredentialDependencies,
  type ValidityDependencies,
} from '#identity/validity'
import { type createClientSecretCheck, isInUse } from '#identity/workload'
import { ACCESS_TOKEN_TYPE } from '#oauth'
import type { IssuedToken } from './issue.ts'
import { withAudit } from './with-audit.ts'

/** A request of an MCP client at the public token endpoint. Nothing of it is believed yet. */
export interface IdentityAssertionRequest {
  readonly clientId: string
  readonly clientSecret: Secret
  readonly assertion: Secret
  readonly scopes?: readonly string[]
  /** `resource` of the request, where it names one beside the assertion. */
  readonly resource?: string
  readonly correlationId: string
}

/** draft-ietf-oauth-identity-assertion-authz-grant section 3. The audience is one text: an assertion for several servers is refused. */
const claimsSchema = z.looseObject({
  iss: z.string(),
  aud: z.string(),
  client_id: z.string(),
  jti: z.string().min(1).max(512),
  iat: z.number(),
  exp: z.number().max(253_402_300_799),
  resource: z.string().or(z.tuple([z.string()]).transform(([only]) => only)),
  scope: z.string().optional(),
})
const LONGEST = 16_384

const invalid = (problem: string): DeputyError => refuse('assertion_invalid', { problem })

/** What is wrong with a subject token is wrong with a grant here. */
const asInvalid = <T>(work: () => T): T => {
  try {
    return work()
  } catch (error) {
    throw error instanceof DeputyError ? invalid(error.message.replace(/\.$/, '')) : error
  }
}

/**
 * Deputy as the resource's side of enterprise-managed authorization (section 4.4): an MCP client redeems an identity assertion of a
 * company's identity provider for an access token (RFC 9068) of one registered MCP server. No refresh token comes with it. The client
 * stands in `act`, because it acts for the user, and the assertion in `anc`, so that whoever revokes one of them, the issuer or the user voids the token.
 */
export const createIdentityAssertions = (
  deps: ValidityDependencies & {
    readonly snapshot: CurrentSnapshot
    readonly issuer: () => string
    readonly issuerKeys: IssuerKeys
    readonly checkSecret: ReturnType<typeof createClientSecretCheck>
    readonly keys: SigningKeys
    readonly replays: ReplayStore
    readonly rates: Pick<Rates, 'admit' | 'isRepeated'>
    readonly audit: AuditLog
    readonly clock: Clock
    readonly random: Random
  },
) => {
  /** The tenants whose client it is. @throws DeputyError `client_unverified` */
  const authenticate = async (clientId: string, secret: Secret): Promise<readonly Tenant[]> => {
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

  const verify = async ({ assertion, clientId, resource }: IdentityAssertionRequest, tenants: readonly Tenant[]) => {
    const text = assertion.reveal()
    if (text.length > LONGEST) throw invalid(`it is longer than ${LONGEST} characters`)
    let unverified
    try {
      unverified = decodeJwt(text)
    } catch {
      throw invalid('it is no JWT')
    }
    const trusting = tenants.flatMap((tenant) =>
      tenant.issuers
        .filter(({ issuer }) => issuer === unverified.iss && tenant.identity_assertions!.issuers.includes(issuer))
        .map((issuer) => ({ tenant, issuer })),
    )
    if (trusting.length === 0) throw invalid('its issuer is none whose assertions are taken from this client')
    const { tenant, issuer } = asInvalid(() => tenantOf(unverified, trusting))
    const verified = await verifyByAnyKey(text, deps.issuerKeys(issuer), {
      issuer: issuer.issuer,
      audience: deps.issuer(),
      typ: 'oauth-id-jag+jwt',
      algorithms: [...issuer.algorithms],
      clockTolerance: LEEWAY,
      currentDate: new Date(deps.clock.now()),
    }).catch((error: unknown) => {
      throw error instanceof DeputyError
        ? error
        : invalid('its type, signature, audience or times are not as they should be')
    })
    const parsed = claimsSchema.safeParse(verified.payload)
    if (!parsed.success)
      throw invalid(`its claim ${String(parsed.error.issues[0]?.path[0] ?? '')} is missing or malformed`)
    const claims = parsed.data
    const now = deps.clock.now() / 1000
    if (claims.exp <= now || claims.iat - LEEWAY > now) throw invalid('it has expired, or is not valid yet')
    if (claims.client_id !== clientId) throw invalid('it is for another client')
    if (resource !== undefined && resource !== claims.resource) throw invalid('it is for another resource')
    const server = [...deps.snapshot().servers.values()].find(
      (each) => each.resource === claims.resource && isInUse(each) && servesTenant(each.tenants, tenant.tenant),
    )
    if (server === undefined) throw invalid('its resource is no MCP server of the tenant')
    return { claims, tenant, issuer, server, user: asInvalid(() => userOf(claims, issuer)) }
  }

  const redeem = async (
    request: IdentityAssertionRequest,
    account: { tenant?: string; user?: string; server?: string },
    tenants: readonly Tenant[],
  ) => {
    const { generation } = deps.snapshot()
    const {
      claims,
      tenant: { tenant },
      issuer,
      server,
      user,
    } = await verify(request, tenants)
    Object.assign(account, { tenant, user, server: server.server })
    assertThawed(tenant, deps)
    await deps.rates.admit('server', [server.server])
    await deps.rates.admit('tenant', [tenant])
    await deps.rates.admit('user', [tenant, user])
    const now = deps.clock.now()
    if (!(await deps.replays.claim(`id-jag ${tenant} ${issuer.issuer}`, claims.jti, (claims.exp + LEEWAY) * 1000)))
      throw invalid('it was redeemed before')
    const allowed = claims.scope?.split(' ').filter((scope) => scope !== '') ?? []
    const scopes = allowed.filter((scope) => request.scopes?.includes(scope) ?? true)
    const ancestor = tokenIdOf(issuer.issuer, claims.jti)
    const tokenId = randomText(deps.random, 16)
    const expiresAt = toSeconds(now + deps.snapshot().settings.tokens.lifetime) * 1000
    const token = new Secret(
      signJwt(
        deps.keys,
        { typ: 'at+jwt' },
        {
          iss: deps.issuer(),
          sub: user,
          aud: server.resource,
          client_id: request.clientId,
          tenant,
          ...(scopes.length === 0 ? {} : { scope: scopes.join(' ') }),
          iat: toSeconds(now),
          exp: toSeconds(expiresAt),
          jti: tokenId,
          act: { sub: request.clientId, client_id: request.clientId },
          anc: [ancestor],
        },
      ),
    )
    const dependsOn: CredentialDependencies = {
      tenant,
      user,
      server: server.server,
      downstreams: [],
      tokens: [tokenId, ancestor],
      since: earliestIssueOf(claims.iat),
    }
    return {
      dependsOn,
      generation,
      taken: issuer.issuer,
      scopes,
      tokenId,
      ancestor,
      issued: {
        token,
        issuedTokenType: ACCESS_TOKEN_TYPE,
        tokenType: 'Bearer',
        scopes,
        expiresIn: toSeconds(expiresAt - now),
      } satisfies IssuedToken,
    }
  }

  /** Whether files still take this issuer's assertions from this client. @throws DeputyError `client_unverified` */
  const assertTaken = (tenant: string, clientId: string, issuer: string): void => {
    const taken = deps.snapshot().tenants.get(tenant)?.identity_assertions
    if (taken?.issuers.includes(issuer) !== true || !taken.clients.some((each) => each.client_id === clientId))
      throw refuse('client_unverified', { client: clientId })
  }

  /** @throws DeputyError `client_unverified`, `assertion_invalid`, and what says that nothing is done for the user */
  return async (request: IdentityAssertionRequest): Promise<IssuedToken> => {
    // Who is not a client leaves no record: this endpoint is public, and the log is not theirs to fill.
    const tenants = await authenticate(request.clientId, request.clientSecret)
    const found: { tenant?: string; user?: string; server?: string } = {}
    const record = { id: request.correlationId, event: 'token.identity_assertion' } as const
    const { issued } = await withAudit(deps, {
      async steps() {
        // Before keys are fetched and signatures checked for it.
        await deps.rates.admit('client', [request.clientId])
        const redeemed = await redeem(request, found, tenants)
        assertStillValid(redeemed.dependsOn, deps, redeemed.generation)
        return redeemed
      },
      issued: ({ scopes, tokenId, ancestor }) => ({
        ...record,
        outcome: 'issued',
        ...found,
        detail: { client: request.clientId, scopes, token: tokenId, subject: { ancestor } },
      }),
      refused: ({ code, message, next }) => ({
        ...record,
        outcome: 'refused',
        ...found,
        ...(found.tenant === undefined && tenants.length === 1 ? { tenant: tenants[0]!.tenant } : {}),
        detail: { client: request.clientId, error: { code, message, next } },
      }),
      assertValid: ({ dependsOn, generation, taken }) => {
        assertStillValid(dependsOn, deps, generation)
        assertTaken(dependsOn.tenant, request.clientId, taken)
      },
    })
    return issued
  }
}
export type RedeemIdentityAssertion = ReturnType<typeof createIdentityAssertions>
