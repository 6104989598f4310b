import { errors } from 'oidc-provider'
import { DeputyError } from '#errors'

/** An error of the taxonomy, as the library puts it into an answer (RFC 6749 section 5.2). */
export const asLibraryError = (thrown: unknown): Error => {
  if (!(thrown instanceof DeputyError)) return thrown instanceof Error ? thrown : new Error(String(thrown))
  const error = new errors.CustomOIDCProviderError(thrown.kind.oauth, `${thrown.message} ${thrown.next}`)
  return Object.assign(error, { status: thrown.kind.status, statusCode: thrown.kind.status })
}
