import { createLru } from '#foundation/lru'
import type { Clock } from '#clock'
import { clientFor, type DownstreamOf } from '#config'
import { refuse } from '#errors'
import { cacheKey } from '#foundation/cache'
import { ACCESS_TOKEN_TYPE } from '#oauth'
import type { Connector, Credential, CredentialRequest } from '../connector.ts'
import type { RequestToken } from './token-request.ts'

const GRANT = 'urn:ietf:params:oauth:grant-type:token-exchange'
/** Actor tokens that are kept at most, and how long before their end they are used no more (ms). */
const MAX_ACTOR_TOKENS = 1000
const MARGIN_MS = 30_000

/** The user's own token. @throws DeputyError `subject_token_invalid` where a login session stands for the user: there is none then */
export const subjectTokenOf = ({
  subjectToken,
  downstream,
}: CredentialRequest): NonNullable<CredentialRequest['subjectToken']> => {
  if (subjectToken === undefined)
    throw refuse('subject_token_invalid', {
      problem: `${downstream.downstream} takes a token of the user, and a login session is none`,
    })
  return subjectToken
}

/**
 * `token_exchange`: the user's token, exchanged at an authorization server (RFC 8693 section 2.1). With an actor the token
 * that comes back says who acts; without one it is an impersonation, as the RFC calls it, and the service sees only the user.
 */
export const createTokenExchangeConnector = ({
  requestToken,
  clock,
}: {
  requestToken: RequestToken
  clock: Clock
}): Connector => {
  const actors = createLru<string, Credential>({ max: MAX_ACTOR_TOKENS })
  /** Deputy's own token there, for whom it acts notwithstanding: without scopes or a target. */
  const actorToken = async (
    request: CredentialRequest,
    downstream: DownstreamOf<'token_exchange'>,
  ): Promise<Credential> => {
    const key = cacheKey(
      request.principal.tenant,
      downstream.provider,
      JSON.stringify(clientFor(downstream, request.principal.tenant)),
    )
    const known = actors.get(key)
    if (known !== undefined && known.expiresAt - MARGIN_MS > clock.now()) return known
    const { resource: _r, audience: _a, ...rest } = downstream
    const fresh = await requestToken(
      {
        ...request,
        downstream: { ...rest, token_audiences: [], parameters: {}, over_scoped: 'mark' },
        scopes: [],
        notAfter: Infinity,
      },
      { grantType: 'client_credentials', parameters: () => ({}), operation: 'actor token request' },
    )
    actors.set(key, fresh)
    return fresh
  }
  return {
    kind: 'token_exchange',
    async obtain(request) {
      const downstream = request.downstream as DownstreamOf<'token_exchange'>
      const { token, type, issuer } = subjectTokenOf(request)
      const actor = downstream.actor === 'client' ? await actorToken(request, downstream) : undefined
      return requestToken(request, {
        grantType: GRANT,
        operation: 'token exchange',
        actor: actor !== undefined,
        ofUser: true,
        parameters: () => ({
          subject_token: token.reveal(),
          subject_token_type: downstream.subject_token_type ?? type,
          ...(downstream.requested_token_type === undefined
            ? {}
            : { requested_token_type: downstream.requested_token_type }),
          ...(actor === undefined ? {} : { actor_token: actor.token.reveal(), actor_token_type: ACCESS_TOKEN_TYPE }),
        }),
        ...(request.principal.kind === 'user' ? { subject: { issuer, user: request.principal.user } } : {}),
      })
    },
  }
}
