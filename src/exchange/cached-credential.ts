import { cacheKey } from '../cache/cache.ts'
import { TXN_TOKEN_TYPE, type Credential, type CredentialRequest } from '../connector/connector.ts'
import { kinds } from '../connector/kinds.ts'

/** A cached credential with what it relies on, so that a revocation finds it. */
export interface CachedCredential {
  readonly credential: Credential
  readonly tenant: string
  readonly user: string | undefined
  readonly server: string
  readonly downstream: string
  readonly provider: string | undefined
  readonly tokens: readonly string[]
  /** When it began to be obtained (ms since the epoch): what was revoked later covers it. */
  readonly since: number
}

/**
 * Every fact that decides what a credential is (threat 24). What was made out of one subject token is never given
 * for another.
 */
export const credentialKey = (request: CredentialRequest, generation: string): string => {
  const { principal, server, downstream } = request
  return cacheKey(
    principal.tenant,
    principal.kind,
    principal.kind === 'user' ? principal.user : '',
    server.server,
    downstream.downstream,
    downstream.credential,
    ...request.audiences,
    String(request.scopes.length),
    ...request.scopes,
    generation,
    request.requestedTokenType ?? '',
    request.requestedTokenType === TXN_TOKEN_TYPE ? request.correlationId : '',
    JSON.stringify(request.confirmation ?? null),
    ...(kinds[downstream.credential].fromSubjectToken ? request.ancestors : []),
  )
}
