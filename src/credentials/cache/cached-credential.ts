import { type Credential, type CredentialRequest, downstreamsOf, kinds } from '#credentials/connector'
import { cacheKey } from '#foundation/cache'
import { TXN_TOKEN_TYPE } from '#oauth'

/** A cached credential with what it relies on, so that a revocation finds it. */
export interface CachedCredential {
  readonly credential: Credential
  readonly tenant: string
  readonly user: string | undefined
  readonly server: string
  /** All that it is for. */
  readonly downstreams: readonly string[]
  readonly provider: string | undefined
  /** The ids of the credential itself and of all that it descends from. */
  readonly tokens: readonly string[]
  /** When it began to be obtained (ms since the epoch): what was revoked later covers it. */
  readonly since: number
  /** The number of the last revocation that was known then: a later one covers it, whatever the clock says. */
  readonly known: number
}

/**
 * Every fact that decides what a credential is (threat 24). What was made out of one subject token is never given
 * for another.
 */
export const credentialKey = (request: CredentialRequest, generation: string): string => {
  const { principal, server, downstream, audiences } = request
  const downstreams = downstreamsOf(request)
  return cacheKey(
    principal.tenant,
    principal.kind,
    principal.kind === 'user' ? principal.user : principal.kind === 'agent' ? principal.agent : '',
    server.server,
    String(downstreams.length),
    ...downstreams.map((each) => each.downstream),
    downstream.credential,
    String(audiences.length),
    ...audiences,
    String(request.scopes.length),
    ...request.scopes,
    generation,
    request.secretVersions ?? '',
    request.requestedTokenType ?? '',
    request.requestedTokenType === TXN_TOKEN_TYPE ? request.correlationId : '',
    JSON.stringify(request.confirmation ?? null),
    ...(kinds[downstream.credential].fromSubjectToken ? request.ancestors : []),
  )
}
