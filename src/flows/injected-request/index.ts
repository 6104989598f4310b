/**
 * A request with the credential that the exchange obtained: how the credential is put in, how the request is sent, and
 * what of the answer may come back. The proxy and the tools of APIs send through here; no other code puts a credential
 * into a request.
 */
export { provingUpstream } from './bound.ts'
export { collectAnswer, type CollectedAnswer } from './collect.ts'
export { codingOf, createDecoder, withoutSecrets } from './decoding.ts'
export { formsOf } from './forms.ts'
export { each, isForDeputy, methodsOf, passedOn, type RawHeaders, without } from './headers.ts'
export { assertNoInboundToken } from './inbound-token.ts'
export { type Injected, putIn, putInBound } from './injection.ts'
export { RedactionCache } from './redaction-cache.ts'
export { reportingUpstream } from './refusals.ts'
export { createRedaction, createReplacement, type Needles, needlesOf, type Rewriter } from './rewriter.ts'
export {
  createUpstream,
  createUpstreamFor,
  rawHeadersOf,
  unreadable,
  type Upstream,
  upstreamError,
  type UpstreamRequest,
} from './upstream.ts'
