import { Readable } from 'node:stream'
import type { Dispatcher } from 'undici'
import type { ProofKey, ProvedRequest } from '#foundation/crypto'
import type { Proofs } from '#foundation/outbound'
import { each, type RawHeaders } from './headers.ts'
import { rawHeadersOf, type Upstream, type UpstreamRequest } from './upstream.ts'

/** The proof of a request with a bound token, made for each sending (RFC 9449 section 7). */
export interface Proving {
  readonly proofs: Proofs
  readonly key: ProofKey
  readonly request: ProvedRequest
  /** Whether the token still may be used: a second sending is checked again (promise 4). */
  stands(): boolean
}

const valuesOf = (headers: RawHeaders, wanted: string): string[] =>
  [...each(headers)].filter(([lower]) => lower === wanted).map(([, , value]) => value)

/** Keeps the nonce of an answer. @returns whether the service requires the request again with it (RFC 9449 section 9) */
const wantsAgain = ({ proofs, request }: Proving, status: number, headers: RawHeaders): boolean => {
  const [nonce, another] = valuesOf(headers, 'dpop-nonce')
  const isNew = another === undefined && proofs.note(request.url, nonce)
  return (
    isNew &&
    status === 401 &&
    valuesOf(headers, 'www-authenticate').some((challenge) => /\berror="?use_dpop_nonce\b/.test(challenge))
  )
}

/**
 * The way to a service for a request whose token is bound: each sending has a proof of its own. One that the service refuses for
 * its nonce is sent once more, if its body is still at hand; otherwise the caller's next request has the nonce.
 */
export const provingUpstream = (upstream: Pick<Upstream, 'send'>, proving: Proving): Pick<Upstream, 'send'> => {
  const send = (outgoing: UpstreamRequest, handler: Dispatcher.DispatchHandler, isLast: boolean): void => {
    let isDropped = false
    upstream.send(
      { ...outgoing, headers: [...outgoing.headers, 'DPoP', proving.proofs.prove(proving.key, proving.request)] },
      {
        onRequestStart(controller, context) {
          handler.onRequestStart?.(controller, context)
        },
        onRequestUpgrade(...args) {
          handler.onRequestUpgrade?.(...args)
        },
        onResponseStart(controller, status, headers, message) {
          const again = wantsAgain(proving, status, rawHeadersOf(controller))
          if (!again || isLast || outgoing.body instanceof Readable || !proving.stands()) {
            handler.onResponseStart?.(controller, status, headers, message)
            return
          }
          isDropped = true
          controller.abort(new Error('the service requires another proof'))
          send(outgoing, handler, true)
        },
        onResponseData(controller, chunk) {
          if (!isDropped) handler.onResponseData?.(controller, chunk)
        },
        onResponseEnd(controller, trailers) {
          if (!isDropped) handler.onResponseEnd?.(controller, trailers)
        },
        onResponseError(controller, error) {
          if (!isDropped) handler.onResponseError?.(controller, error)
        },
      },
    )
  }
  return {
    send(request, handler) {
      send(request, handler, false)
    },
  }
}
