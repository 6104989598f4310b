import { each } from './headers.ts'
import { rawHeadersOf, type Upstream } from './upstream.ts'

/** The service requires another proof, not another token (RFC 9449 section 9). */
const WANTS_NONCE = /\berror="?use_dpop_nonce\b/

/**
 * The way to a service, with a report for each answer that refuses the credential (401). The answer goes on to the caller as it
 * is: whether a request may be sent twice is known to the program that sent it.
 */
export const reportingUpstream = (upstream: Pick<Upstream, 'send'>, refused: () => void): Pick<Upstream, 'send'> => ({
  send(request, handler) {
    upstream.send(request, {
      onRequestStart(controller, context) {
        handler.onRequestStart?.(controller, context)
      },
      onRequestUpgrade(...args) {
        handler.onRequestUpgrade?.(...args)
      },
      onResponseStart(controller, status, headers, message) {
        const wantsNonce = [...each(rawHeadersOf(controller))].some(
          ([lower, , value]) => lower === 'www-authenticate' && WANTS_NONCE.test(value),
        )
        if (status === 401 && !wantsNonce) refused()
        handler.onResponseStart?.(controller, status, headers, message)
      },
      onResponseData(controller, chunk) {
        handler.onResponseData?.(controller, chunk)
      },
      onResponseEnd(controller, trailers) {
        handler.onResponseEnd?.(controller, trailers)
      },
      onResponseError(controller, error) {
        handler.onResponseError?.(controller, error)
      },
    })
  },
})
