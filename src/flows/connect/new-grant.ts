import type { DownstreamOf } from '#config'
import { sealTokens } from '#credentials/connector'
import {
  fieldsOf,
  isBound,
  type ProviderClient,
  refreshUntilOf,
  revokeTokens,
  scopesOf,
  tokenLifeOf,
} from '#credentials/provider'
import { refuse } from '#errors'
import { randomText, Secret } from '#foundation/crypto'
import type { Grant } from '#foundation/store'
import type { Step } from './attempt.ts'
import type { AuthorizationDependencies } from './authorization.ts'
import type { Redeemed } from './redeem-code.ts'

type GrantDependencies = Pick<AuthorizationDependencies, 'clock' | 'random' | 'envelope' | 'redirectUri' | 'endSealed'>

/** An authorization step, and what its code was redeemed for. */
interface Given extends Redeemed {
  readonly step: Step<'authorization'>
  readonly downstream: DownstreamOf<'oauth_grant'>
}

/** A grant that is not in the store yet. */
export interface NewGrant {
  readonly grant: Omit<Grant, 'version'>
  /** Ends its tokens at the provider, for a grant that is not kept. */
  end(): Promise<void>
}

/** The tokens as `revokeTokens` takes them. */
const tokensOf = ({ response, proof }: Redeemed) => ({
  refreshToken: response.refresh_token === undefined ? undefined : new Secret(response.refresh_token),
  accessToken: new Secret(response.access_token),
  proofKey: proof?.key,
})

/** Seals the tokens of a grant under the key of its tenant. @param scopes those of the token where they differ from the granted ones */
const seal = async (
  deps: GrantDependencies,
  client: ProviderClient,
  { step: { wish }, downstream, ...redeemed }: Given,
  { id, now, scopes }: { readonly id: string; readonly now: number; readonly scopes: readonly string[] | undefined },
): Promise<Uint8Array> => {
  const { response } = redeemed
  const tokens = tokensOf(redeemed)
  const configured = (tokens.refreshToken === undefined ? undefined : downstream.lifetime) ?? Infinity
  return sealTokens(
    deps.envelope,
    { tenant: wish.tenant, id, user: wish.user, server: wish.server, downstream: wish.downstream },
    {
      ...tokens,
      accessObtainedAt: now,
      accessExpiresAt: now + Math.min(await tokenLifeOf(client, response, now), configured),
      refreshUntil: refreshUntilOf(response, now),
      clientId: client.clientId,
      tokenEndpoint: client.server.token_endpoint!,
      resource: downstream.resource,
      redirectUri: client.provider.refresh.redirect_uri ? deps.redirectUri(client.provider) : undefined,
      fields: fieldsOf(client.provider, response),
      ...(scopes === undefined ? {} : { accessScopes: scopes }),
      bound: isBound(response),
    },
  )
}

/**
 * The grant for the tokens that a service gave. Scopes that were not asked for are refused here, where the user and an admin
 * can act on them, and not by every request later; its tokens are ended then.
 * @throws DeputyError `scope_not_asked`
 */
export const newGrantOf = async (deps: GrantDependencies, client: ProviderClient, given: Given): Promise<NewGrant> => {
  const { wish, granted } = given.step
  const { provider } = client
  const now = deps.clock.now()
  const id = randomText(deps.random, 12)
  const scopes = scopesOf(provider, given.response, granted, given.downstream.scopes) ?? granted
  const surplus = scopes.filter((scope) => !granted.includes(scope))
  const sealed = await seal(deps, client, given, { id, now, scopes: surplus.length === 0 ? undefined : scopes })
  const grant: NewGrant['grant'] = {
    id,
    tenant: wish.tenant,
    user: wish.user,
    server: wish.server,
    downstream: wish.downstream,
    provider: provider.provider,
    clientGeneration: client.generation,
    // The user granted the ticked scopes; surplus scopes belong to the token, which is narrowed or marked.
    scopes: granted.filter((scope) => scopes.includes(scope)).toSorted(),
    status: 'active',
    problem: null,
    sealed,
    createdAt: now,
    updatedAt: now,
  }
  /** Other grants of the user may end with this one, and are in use. */
  const end = async (): Promise<void> => {
    if (!(await deps.endSealed({ ...grant, version: 0 }))) await revokeTokens(client, tokensOf(given))
  }
  if (surplus.length > 0 && given.downstream.over_scoped !== 'mark' && !provider.refresh.narrows) {
    await end().catch(() => undefined)
    throw refuse('scope_not_asked', {
      provider: provider.provider,
      surplus: surplus.join(' '),
      downstream: wish.downstream,
    })
  }
  return { grant, end }
}
