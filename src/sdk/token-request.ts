import { Token } from './token.ts'

/** For whom: the token that the user's client sent to this server; `session`, the Unix user's own login (`deputy login`); `server`, this server itself. */
export type OnBehalfOf = { readonly token: string; readonly type?: string } | string | typeof SESSION | typeof SERVER
export const SESSION: unique symbol = Symbol('the login session of the Unix user')
export const SERVER: unique symbol = Symbol('this server itself')

export interface TokenRequest {
  /** Id of the downstream service. */
  readonly downstream: string
  readonly onBehalfOf: OnBehalfOf
  /** Absent: all that the server, or the tool, is registered for. */
  readonly scopes?: readonly string[]
  /** The MCP tool that is being called: narrows to what it needs. */
  readonly tool?: string
  /** The credential that the same request returned before and that the service refused (401): Deputy drops it and returns another one, if there is one. */
  readonly rejected?: Token
  readonly signal?: AbortSignal
}

const TOKEN_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange'
const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token'
const LOGIN_SESSION = 'urn:deputy:params:oauth:token-type:login-session'

/** Checks what types check for programs that use them: a mistake must not request more than was meant. @throws TypeError */
export const assertValid = ({ onBehalfOf, scopes }: TokenRequest): void => {
  if (scopes !== undefined && !(Array.isArray(scopes) && scopes.every((scope) => typeof scope === 'string')))
    throw new TypeError("scopes must be a list of strings, such as ['notes:read']")
  if (scopes?.length === 0)
    throw new TypeError('scopes is empty: leave it out for all that the server, or the tool, is registered for')
  if (onBehalfOf === SESSION || onBehalfOf === SERVER) return
  const token: unknown = typeof onBehalfOf === 'object' ? (onBehalfOf as { token?: unknown } | null)?.token : onBehalfOf
  if (typeof token !== 'string' || token === '' || onBehalfOf instanceof Token)
    throw new TypeError("onBehalfOf must be the user's token as the client sent it, SESSION or SERVER")
}

/** RFC 8693 section 2.1, RFC 6749 section 4.4. */
export const formOf = ({ downstream, onBehalfOf, scopes, tool, rejected }: TokenRequest): URLSearchParams => {
  const form = new URLSearchParams({
    audience: downstream,
    ...(scopes === undefined ? {} : { scope: scopes.join(' ') }),
    ...(tool === undefined ? {} : { tool }),
    ...(rejected === undefined ? {} : { rejected_token: rejected.reveal() }),
  })
  if (onBehalfOf === SERVER) {
    form.set('grant_type', 'client_credentials')
    return form
  }
  const subject =
    onBehalfOf === SESSION
      ? { token: 'current', type: LOGIN_SESSION }
      : typeof onBehalfOf === 'string'
        ? { token: onBehalfOf }
        : onBehalfOf
  form.set('grant_type', TOKEN_EXCHANGE)
  form.set('subject_token', subject.token)
  form.set('subject_token_type', subject.type ?? ACCESS_TOKEN)
  return form
}
