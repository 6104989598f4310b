import { refuse } from '#errors'
import type { Presentation } from '#flows/exchange'
import type { Form } from '#listeners/http'

const MAX_URLS = 4
const MAX_URL_LENGTH = 2048
/** RFC 9110 section 9.1. */
const METHOD = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}$/

const malformed = (problem: string): Error => refuse('malformed_request', { problem })

/**
 * How a client sent the token that the caller asks about: `token_scheme`, `dpop_proof`, `htm` and `htu`, which may be repeated.
 * @returns undefined where the caller says nothing about it: it checks possession itself
 * @throws DeputyError `malformed_request`, `parameter_missing`
 */
export const parsePresentation = (form: Form): Presentation | undefined => {
  const scheme = form.optional('token_scheme')
  const proof = form.optional('dpop_proof')
  if (scheme === undefined) {
    if (proof !== undefined) throw malformed('dpop_proof needs token_scheme, the scheme of the Authorization header')
    return undefined
  }
  if (scheme !== 'Bearer' && scheme !== 'DPoP') throw malformed('token_scheme is neither Bearer nor DPoP')
  const method = form.required('htm')
  if (!METHOD.test(method)) throw malformed('htm is no method')
  const urls = form.all('htu')
  if (urls.length === 0 || urls.length > MAX_URLS) throw malformed(`htu is sent between once and ${MAX_URLS} times`)
  if (urls.some((url) => url.length > MAX_URL_LENGTH || !URL.canParse(url)))
    throw malformed('htu is not the URL of a request')
  return { scheme, method, urls, ...(proof === undefined ? {} : { proof }) }
}
