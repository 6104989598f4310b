import type { IncomingMessage } from 'node:http'
import { refuse } from '#errors'
import {
  type Exchange,
  type Injection,
  type IssuedToken,
  LOGIN_SESSION_TOKEN,
  LOGIN_SESSION_TOKEN_TYPE,
  type RequestOrigin,
  type TokenExchangeRequest,
  type TokenRequest,
} from '#flows/exchange'
import { isForDeputy } from '#flows/injected-request'
import { Secret } from '#foundation/crypto'
import type { CallerEvidence, PeerProcess } from '#identity/workload'
import { parseBasic } from '#listeners/http'
import { parseScopes, parseTokenType, parseTool } from '#listeners/local-api'
import { ACCESS_TOKEN_TYPE } from '#oauth'

/** For whom a request is: a user whose token proves it, or the server itself. There is no default. */
type Beneficiary = Pick<TokenExchangeRequest, 'subjectToken' | 'subjectTokenType'> | 'server'

/** The part of a request that is for Deputy and not for the service. Parsed, not yet verified. */
export interface Caller {
  readonly evidence: CallerEvidence
  readonly beneficiary: Beneficiary
  readonly scopes: readonly string[] | undefined
  readonly tool: string | undefined
}

const TOKEN = 'deputy-subject-token'
const TOKEN_TYPE = 'deputy-subject-token-type'
const ON_BEHALF_OF = 'deputy-on-behalf-of'

type Own = ReadonlyMap<string, string>

/** @throws DeputyError `parameter_repeated`, because either one could be meant */
const ownHeaders = ({ rawHeaders }: IncomingMessage): Own => {
  const own = new Map<string, string>()
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at]!.toLowerCase()
    if (!isForDeputy(name)) continue
    if (own.has(name)) throw refuse('parameter_repeated', { parameter: name })
    own.set(name, rawHeaders[at + 1]!)
  }
  return own
}

const SESSION: Beneficiary = {
  subjectToken: new Secret(LOGIN_SESSION_TOKEN),
  subjectTokenType: LOGIN_SESSION_TOKEN_TYPE,
}

/**
 * An empty value counts as none, and none never falls back to another authority (threat 12).
 * @param started for whom `deputy exec` has started the caller
 */
const beneficiaryOf = (own: Own, started: 'session' | 'server' | undefined): Beneficiary => {
  const [token, behalf, type] = [own.get(TOKEN), own.get(ON_BEHALF_OF), own.get(TOKEN_TYPE)]
  if (token !== undefined && behalf !== undefined)
    throw refuse('malformed_request', { problem: 'Deputy-Subject-Token and Deputy-On-Behalf-Of contradict each other' })
  if (token !== undefined && token !== '')
    return {
      subjectToken: new Secret(token),
      subjectTokenType: type === undefined ? ACCESS_TOKEN_TYPE : parseTokenType(type, 'Deputy-Subject-Token-Type'),
    }
  if (type !== undefined) throw refuse('parameter_missing', { parameter: 'Deputy-Subject-Token' })
  if (behalf === 'server') return 'server'
  if (behalf === 'session') return SESSION
  if (behalf !== undefined && behalf !== '')
    throw refuse('malformed_request', { problem: 'Deputy-On-Behalf-Of is neither session nor server' })
  if (started === undefined || token !== undefined || behalf !== undefined) throw refuse('beneficiary_missing')
  return started === 'server' ? 'server' : SESSION
}

/** The caller: identified by the kernel, or by client id and secret. A client id without a secret selects one of several servers of one process. */
const evidenceOf = (authorization: string | undefined, peer: PeerProcess | undefined): CallerEvidence => {
  const basic = authorization === undefined ? undefined : parseBasic(authorization, 'Proxy-Authorization')
  return {
    ...(peer === undefined ? {} : { peer }),
    ...(basic === undefined ? {} : { clientId: basic.clientId }),
    ...(basic === undefined || basic.clientSecret.reveal() === '' ? {} : { clientSecret: basic.clientSecret }),
  }
}

/**
 * Clients that send no `Proxy-Authorization` to an address that they call directly (Java's `HttpClient`) say the same
 * in a header of Deputy's.
 */
const authorizationIn = (own: Own): string | undefined => {
  const [proxy, deputy] = [own.get('proxy-authorization'), own.get('deputy-authorization')]
  if (proxy !== undefined && deputy !== undefined && proxy !== deputy)
    throw refuse('malformed_request', { problem: 'Proxy-Authorization and Deputy-Authorization contradict each other' })
  return proxy ?? deputy
}

/** @throws DeputyError `malformed_request`, `parameter_repeated` */
export const readEvidence = (request: IncomingMessage, peer: PeerProcess | undefined): CallerEvidence =>
  evidenceOf(authorizationIn(ownHeaders(request)), peer)

/**
 * The caller, and on whose behalf it calls. In a tunnel the CONNECT request may name both for all requests; the user is named by one of the
 * two as a whole, so that a header that is missing on one side is never made up for by the other.
 * @param startedFor on whose behalf `deputy exec` has started a caller that does not name it
 * @throws DeputyError of the category request, and `beneficiary_missing`
 */
export const readCaller = (
  request: IncomingMessage,
  connect: IncomingMessage | undefined,
  peer: PeerProcess | undefined,
  startedFor: (evidence: CallerEvidence) => 'session' | 'server' | undefined,
): Caller => {
  const inner = ownHeaders(request)
  const outer: Own = connect === undefined ? new Map() : ownHeaders(connect)
  const said = [TOKEN, TOKEN_TYPE, ON_BEHALF_OF].some((name) => inner.has(name)) ? inner : outer
  const either = (name: string): string | undefined => inner.get(name) ?? outer.get(name)
  const evidence = evidenceOf(authorizationIn(inner) ?? authorizationIn(outer), peer)
  return {
    evidence,
    beneficiary: beneficiaryOf(said, startedFor(evidence)),
    scopes: parseScopes(either('deputy-scope')),
    tool: parseTool(either('deputy-tool')),
  }
}

/** What a request needs of the exchange. */
export interface InjectionRequest {
  /** The downstream that the request names; undefined where its host does. */
  readonly downstream: string | undefined
  readonly injection: Injection
  /** The credential that the service refused before. */
  readonly rejected?: Secret
}

/** Obtains the credential for a request through the exchange, which attests, decides and records. @throws DeputyError any refusal */
export const obtainFor = (
  exchange: Exchange,
  origin: RequestOrigin,
  { beneficiary, scopes, tool }: Caller,
  { downstream, injection, rejected }: InjectionRequest,
): Promise<IssuedToken> => {
  const request: TokenRequest = {
    audiences: downstream === undefined ? [] : [downstream],
    resources: [],
    injection,
    ...(rejected === undefined ? {} : { rejected }),
    ...(scopes === undefined ? {} : { scopes }),
    ...(tool === undefined ? {} : { tool }),
  }
  return beneficiary === 'server'
    ? exchange.clientCredentials(origin, request)
    : exchange.exchange(origin, { ...request, ...beneficiary })
}
