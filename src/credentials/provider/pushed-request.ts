import type { ServerMetadata } from 'openid-client'
import type { Provider } from '#config'
import { refuse } from '#errors'

/**
 * Whether an authorization request is pushed (RFC 9126).
 * @param hasDocument whether the client is known by a document at its id, which some servers read at their
 * authorization endpoint only
 * @throws DeputyError `provider_refused` where it has to be pushed and there is no endpoint
 */
export const isPushed = (options: {
  readonly provider: string
  readonly par: Provider['par']
  readonly server: ServerMetadata
  readonly hasDocument: boolean
}): boolean => {
  const { provider, par, server, hasDocument } = options
  const hasEndpoint = server.pushed_authorization_request_endpoint !== undefined
  if (par === 'never') return false
  if (par === 'required' || server.require_pushed_authorization_requests === true) {
    if (!hasEndpoint)
      throw refuse('provider_refused', {
        provider,
        problem: 'it accepts only pushed authorization requests, and names no endpoint for them',
      })
    return true
  }
  return hasEndpoint && !hasDocument
}
