import type { IssuedToken } from '#flows/exchange'
import {
  assertNoInboundToken,
  collectAnswer,
  type CollectedAnswer,
  type Injected,
  methodsOf,
  type Needles,
  needlesOf,
  provingUpstream,
  putIn,
  putInBound,
} from '#flows/injected-request'
import type { Secret } from '#foundation/crypto'
import type { ApiRequest } from '#openapi'
import { assertOwnPlaceholders } from './placeholders.ts'
import type { OnBehalfOf, RunningCall, ToolCallDependencies } from './context.ts'

/** Where the credential goes, and whether it is bound to a key. */
type IssuedInjection = NonNullable<IssuedToken['injection']>

/** A credential for the requests of one call. */
export interface CallCredential {
  readonly token: Secret
  readonly injection: IssuedInjection
  /** What must not come back of it, and of those that the call used before: set when it is sent. */
  needles?: Needles
  readonly earlier?: Needles
}

/**
 * Obtains the credential for a request by the line of the exchange: policy decides, and the record is durable.
 * @param rejected the credential that the API refused (401)
 * @throws DeputyError of the exchange
 */
export const obtainFor = async (
  { exchange }: Pick<ToolCallDependencies, 'exchange'>,
  { request: { origin, tool, onBehalfOf }, hosted, facts }: RunningCall,
  request: ApiRequest,
  rejected?: Secret,
): Promise<CallCredential> => {
  const { token, injection } = await exchange.exchange(origin, {
    ...onBehalfOf,
    audiences: [hosted.api.downstream],
    resources: [],
    tool,
    call: facts,
    ...(rejected === undefined ? {} : { rejected }),
    injection: {
      origin: request.origin,
      methods: methodsOf(request.method, request.headers),
      path: request.path,
    },
  })
  return { token, injection: injection! }
}

/**
 * The user's token cannot reach the API, or a record, as an argument (threat 18).
 * @throws DeputyError `malformed_request`
 */
export const assertNotAmong = ({ subjectToken }: OnBehalfOf, sent: readonly (string | Buffer)[]): void => {
  assertNoInboundToken(subjectToken, sent, "the user's token is among the arguments, and would go to the API")
}

const rewritten = ({ body: rewriter }: Injected, body: Buffer | undefined): Buffer | null => {
  if (body === undefined) return null
  return rewriter === undefined ? body : Buffer.concat([rewriter.write(body), rewriter.end()])
}

/**
 * Puts the credential into a request, sends it, and reads the answer. The answer of a credential that was revoked
 * meanwhile is not given to the caller (promise 4).
 * @throws DeputyError `malformed_request`, `injection_unsafe`, `egress_refused`, `answers_pending`, those of
 * `upstreamError`, `revoked`; and the reason of the call's signal
 */
export const sendWith = async (
  credential: CallCredential,
  request: ApiRequest,
  call: RunningCall,
  { upstream, proofs, redactions }: Pick<ToolCallDependencies, 'upstream' | 'proofs' | 'redactions'>,
): Promise<CollectedAnswer> => {
  const { token, injection, earlier } = credential
  assertOwnPlaceholders(injection, call.hosted.tool.operation, request)
  const put = injection.proofKey === undefined ? putIn : putInBound
  const { path, query, headers, body } = request
  const injected = put(token, injection, { path, query, headers, hasBody: body !== undefined })
  assertNotAmong(call.request.onBehalfOf, [injected.target, ...injected.headers, ...(body === undefined ? [] : [body])])
  const way =
    injection.proofKey === undefined
      ? upstream
      : provingUpstream(upstream, {
          proofs,
          key: injection.proofKey,
          request: { method: request.method, url: `${injection.origin}${injected.target}`, accessToken: token },
          stands: injection.stands,
        })
  const needles = redactions.needlesFor(token, injected.secrets)
  credential.needles = earlier === undefined ? needles : needlesOf([...needles.all, ...earlier.all])
  return await collectAnswer(
    way,
    {
      origin: injection.origin,
      target: injected.target,
      method: request.method,
      headers: [...injected.headers, 'Accept-Encoding', 'identity'],
      body: rewritten(injected, body),
    },
    {
      needles: credential.needles,
      maxBytes: call.hosted.tool.operation.limits.maxBytes,
      signal: call.signal,
      onHeld: call.onHeld,
    },
  )
}
