import type { Provider } from '#config'
import { ownValue } from '#foundation/text'
import { isIdentityScope } from './identity-scopes.ts'
import {
  asMembers,
  errorIn,
  errorInChallenge,
  errorInText,
  expiresInOf,
  membersIn,
  textOf,
  type Members,
  type NamedError,
} from './answer-members.ts'
import { accessTokenClaims } from './token-answer.ts'

/** What of a provider's file says how it answers. */
export type AnswerFacts = Pick<Provider, 'answers' | 'scope_separator' | 'discovery' | 'issuer'>

/** How a provider says no in an answer whose status says yes, by the name that its file has for it. @returns its own code for it */
const noSaid: Readonly<
  Record<Provider['answers']['errors'], (body: Members, code: string | undefined) => string | undefined>
> = {
  status: () => undefined,
  error_member: (_body, code) => code,
  ok_member: ({ ok }, code) => (ok === false ? (code ?? 'it does not say why') : undefined),
}

/** What belongs to a token in an answer (RFC 6749 section 5.1). */
const OF_TOKEN = ['access_token', 'token_type', 'expires_in', 'refresh_token', 'scope'] as const

const scopeText = (scope: unknown, provider: AnswerFacts): unknown => {
  if (typeof scope !== 'string' && !Array.isArray(scope)) return scope
  const { scope_separator: separator = provider.scope_separator } = provider.answers
  const each: unknown[] = typeof scope === 'string' ? scope.split(separator) : scope
  return each
    .map((one) => String(one).trim())
    .filter((one) => one !== '')
    .join(' ')
}

/** The part of an answer that holds the user's token. In the answer to a code the members around it belong to another party, such as the application itself; a refresh brings the token that it is for. */
const holderIn = (body: Members, under: string | undefined, grantType: string): Members => {
  if (under === undefined) return body
  const inner = asMembers(body[under]) ?? {}
  return grantType === 'authorization_code' || inner['access_token'] !== undefined ? inner : body
}

/** An answer, an error or a token, in the form of RFC 6749 sections 5.1 and 5.2. */
export interface StandardAnswer {
  readonly status: number
  readonly body: Members
}

/** An error with its code in the words of the standard. @param said the provider's own code, where it has one */
const errorBody = (body: Members, { code, description }: NamedError, said?: string): Members => {
  const words = [
    ...(said === undefined || said.trim().toLowerCase() === code ? [] : [said]),
    ...(description === undefined ? [] : [description]),
  ]
  const { error_description: _, ...rest } = body
  return { ...rest, error: code, ...(words.length === 0 ? {} : { error_description: words.join(': ') }) }
}

/** An answer that says no. Undefined where it does not, or does not say with which code. */
const toError = (
  { answers }: AnswerFacts,
  status: number,
  body: Members,
  isEmpty: boolean,
): StandardAnswer | undefined => {
  const code = textOf(ownValue(body, answers.error_member))
  const said = noSaid[answers.errors](body, code) ?? (status >= 400 ? code : undefined)
  const meant = said !== undefined && Object.hasOwn(answers.error_codes, said) ? answers.error_codes[said] : undefined
  const named: NamedError | undefined =
    meant !== undefined
      ? { code: meant, description: textOf(body['error_description']) }
      : said !== undefined || status >= 400 || isEmpty
        ? errorIn(body, answers.error_member)
        : undefined
  if (named === undefined && said === undefined) return undefined
  return {
    // A grant that is over is no failure of the server, whatever the status.
    status: status >= 400 && !(status >= 500 && named?.code === 'invalid_grant') ? status : 400,
    body: named === undefined ? { ...body, error: said! } : errorBody(body, named, said),
  }
}

/**
 * A provider's answer in the words of the standard, by the facts of its file: scopes with spaces between, the token in the answer itself,
 * an error with an error status and the standard's code, whether the answer is JSON, a form or plain text. What is none of these stays as it is.
 * @param grantType of the request, undefined where it was not for a token
 */
export const toStandard = (
  provider: AnswerFacts,
  status: number,
  text: string,
  grantType?: string,
): StandardAnswer | undefined => {
  const body = membersIn(text)
  if (body === undefined) {
    const named = status >= 400 && status < 500 ? errorInText(text) : undefined
    return named === undefined ? undefined : { status, body: errorBody({}, named) }
  }
  const { answers } = provider
  const holder = holderIn(body, answers.token_under, grantType ?? '')
  const error = toError(provider, status, body, grantType !== undefined && textOf(holder['access_token']) === undefined)
  if (error !== undefined) return error
  if (grantType === undefined || status >= 400) return { status, body }
  const token = Object.fromEntries(
    OF_TOKEN.filter((name) => holder[name] !== undefined && holder[name] !== null).map((name) => [name, holder[name]]),
  )
  // An empty refresh token is none: the one that is kept stays (RFC 6749 section 6).
  if (textOf(token['refresh_token']) === undefined && typeof token['refresh_token'] === 'string')
    delete token['refresh_token']
  const life = expiresInOf(token['expires_in'])
  delete token['expires_in']
  const rest = Object.fromEntries(
    Object.entries(body).filter(
      ([name]) => !(OF_TOKEN as readonly string[]).includes(name) && !(name === 'id_token' && !isVerifiable(provider)),
    ),
  )
  return {
    status,
    body: {
      ...rest,
      ...token,
      ...(life === undefined ? {} : { expires_in: life }),
      ...(token['scope'] === undefined ? {} : { scope: scopeText(token['scope'], provider) }),
      ...(answers.token_type === 'bearer' && token['access_token'] !== undefined ? { token_type: 'bearer' } : {}),
    },
  }
}

interface ReadAs {
  /** Of the request, undefined where it was not for a token. */
  readonly grantType: string | undefined
  /** Gets status and text of what is returned. */
  readonly seen?: ((status: number, text: string) => void) | undefined
}

/**
 * A response with its answer in the words of the standard, as a client library reads it. Where it has an OAuth error, a
 * `WWW-Authenticate` beside it (RFC 6749 section 5.2 asks for one with `invalid_client`) says nothing more, and goes.
 * @param text the body of the response
 */
export const toStandardResponse = (
  facts: AnswerFacts,
  response: Response,
  text: string,
  { grantType, seen }: ReadAs,
): Response => {
  const said = toStandard(facts, response.status, text, grantType)
  const challenged =
    response.status === 401 && said?.body['error'] === undefined
      ? errorInChallenge(response.headers.get('www-authenticate'))
      : undefined
  const standard =
    challenged === undefined ? said : { status: response.status, body: errorBody(said?.body ?? {}, challenged) }
  const body = standard === undefined ? text : JSON.stringify(standard.body)
  const headers = new Headers(response.headers)
  if (standard !== undefined && (standard.status >= 400 || grantType !== undefined))
    headers.set('content-type', 'application/json')
  if (typeof standard?.body['error'] === 'string' && standard.status >= 400) headers.delete('www-authenticate')
  seen?.(standard?.status ?? response.status, body)
  return new Response(response.body === null ? null : body, { status: standard?.status ?? response.status, headers })
}

/** An ID token can be held to an issuer only where the file knows it; Deputy itself needs none from a service. */
const isVerifiable = ({ issuer, discovery }: AnswerFacts): boolean => discovery || issuer !== undefined

/** The longest member of an answer that is passed on. */
const MAX_FIELD_LENGTH = 1000

/** The members of an answer that are passed on to servers: those that the provider's file lists, where they are plain values. */
export const fieldsOf = (provider: Provider, answer: object): Readonly<Record<string, string>> =>
  Object.fromEntries(
    provider.response_fields.flatMap((name) => {
      let value: unknown = answer
      for (const step of name.split('.'))
        value =
          typeof value === 'object' && value !== null && Object.hasOwn(value, step)
            ? (value as Members)[step]
            : undefined
      return (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') &&
        String(value).length <= MAX_FIELD_LENGTH
        ? [[name, String(value)]]
        : []
    }),
  )

/**
 * What an answer says of scopes, as its file has it: in its member, or in the token, where that is one that can be
 * read.
 */
const namedIn = (
  { answers, issuer }: Pick<Provider, 'answers' | 'issuer'>,
  answer: { readonly scope?: string | undefined; readonly access_token: string },
): string | undefined => {
  const scope = answers.scope_of === 'token' ? accessTokenClaims(answer.access_token, issuer)?.['scope'] : undefined
  if (typeof scope === 'string') return scope
  return Array.isArray(scope) ? scope.filter((each) => typeof each === 'string').join(' ') : answer.scope
}

/**
 * Scopes of an answer in the words of the standard, without those that open nothing and were not asked for.
 * @param offered the scopes that the downstream's file describes
 * @returns undefined where the answer names no scopes
 */
export const scopesOf = (
  provider: Provider,
  answer: { readonly scope?: string | undefined; readonly access_token: string },
  asked: readonly string[],
  offered: Readonly<Record<string, string>>,
): string[] | undefined =>
  namedIn(provider, answer)
    ?.split(' ')
    .filter(
      (scope) =>
        scope !== '' &&
        (asked.includes(scope) ||
          (scope !== provider.offline_scope &&
            !provider.answers.ignored_scopes.includes(scope) &&
            !isIdentityScope(scope, offered))),
    )

/** The body of a request as the provider wants it. */
export const toBody = (provider: Provider, form: URLSearchParams): { readonly body: string; readonly type: string } =>
  provider.token_requests.body === 'json'
    ? { body: JSON.stringify(Object.fromEntries(form)), type: 'application/json' }
    : { body: form.toString(), type: 'application/x-www-form-urlencoded;charset=UTF-8' }
