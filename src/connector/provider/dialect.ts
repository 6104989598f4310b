import { z } from 'zod'
import type { Provider } from '../../config/provider.ts'
import { isIdentityScope } from './identity-scopes.ts'

type Members = Readonly<Record<string, unknown>>

const membersSchema = z.record(z.string(), z.unknown())
const membersOf = (text: string): Members | undefined => {
  try {
    return membersSchema.safeParse(JSON.parse(text)).data
  } catch {
    return undefined
  }
}

const textOf = (value: unknown): string | undefined => (typeof value === 'string' && value !== '' ? value : undefined)

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

const scopeText = (scope: unknown, provider: Provider): unknown => {
  if (typeof scope !== 'string' && !Array.isArray(scope)) return scope
  const { scope_separator: separator = provider.scope_separator } = provider.answers
  const each: unknown[] = typeof scope === 'string' ? scope.split(separator) : scope
  return each
    .map((one) => String(one).trim())
    .filter((one) => one !== '')
    .join(' ')
}

/** The part of an answer that holds the user's token. With a code, what stands around it is somebody else's: the application's own, for example; a refresh brings the one that it is for. */
const holderIn = (body: Members, under: string | undefined, grantType: string): Members => {
  if (under === undefined) return body
  const inner = membersSchema.safeParse(body[under]).data ?? {}
  return grantType === 'authorization_code' || inner['access_token'] !== undefined ? inner : body
}

/** What was answered: an error, or a token, told as RFC 6749 sections 5.1 and 5.2 would have it. */
export interface StandardAnswer {
  readonly status: number
  readonly body: Members
}

/**
 * A provider's answer in the words of the standard, by the facts of its file: scopes with spaces between, the token in the answer itself,
 * an error with an error status. What is no JSON object stays as it is.
 * @param grantType of the request, undefined where it was not for a token
 */
export const toStandard = (
  provider: Provider,
  status: number,
  text: string,
  grantType?: string,
): StandardAnswer | undefined => {
  const body = membersOf(text)
  if (body === undefined) return undefined
  const { answers } = provider
  const code = textOf(body[answers.error_member])
  const said = noSaid[answers.errors](body, code) ?? (status >= 400 ? code : undefined)
  if (said !== undefined) {
    const meant = Object.hasOwn(answers.error_codes, said) ? answers.error_codes[said] : undefined
    return {
      status: status >= 400 ? status : 400,
      body:
        meant === undefined
          ? { ...body, error: said }
          : {
              ...body,
              error: meant,
              error_description: [said, textOf(body['error_description'])]
                .filter((each) => each !== undefined)
                .join(': '),
            },
    }
  }
  if (grantType === undefined || status >= 400) return { status, body }
  const holder = holderIn(body, answers.token_under, grantType)
  const token = Object.fromEntries(
    OF_TOKEN.filter((name) => holder[name] !== undefined && holder[name] !== null).map((name) => [name, holder[name]]),
  )
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
      ...(token['scope'] === undefined ? {} : { scope: scopeText(token['scope'], provider) }),
      ...(answers.token_type === 'bearer' && token['access_token'] !== undefined ? { token_type: 'bearer' } : {}),
    },
  }
}

/** An ID token can be held to an issuer only where the file knows it; Deputy itself needs none from a service. */
const isVerifiable = ({ issuer, discovery }: Provider): boolean => discovery || issuer !== undefined

/** Longest member of an answer that is told on. */
const LONGEST_FIELD = 1000

/** What of an answer goes on to servers: what the provider's file lists, where it is a plain value. */
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
        String(value).length <= LONGEST_FIELD
        ? [[name, String(value)]]
        : []
    }),
  )

/**
 * Scopes of an answer in the words of the standard, without those that open nothing and were not asked for.
 * @param offered the scopes that the downstream's file describes
 * @returns undefined where the answer names no scopes
 */
export const scopesOf = (
  { offline_scope: offline, answers }: Provider,
  answer: { readonly scope?: string | undefined },
  asked: readonly string[],
  offered: Readonly<Record<string, string>>,
): string[] | undefined =>
  answer.scope
    ?.split(' ')
    .filter(
      (scope) =>
        scope !== '' &&
        (asked.includes(scope) ||
          (scope !== offline && !answers.ignored_scopes.includes(scope) && !isIdentityScope(scope, offered))),
    )

/** The body of a request as the provider wants it. */
export const toBody = (provider: Provider, form: URLSearchParams): { readonly body: string; readonly type: string } =>
  provider.token_requests.body === 'json'
    ? { body: JSON.stringify(Object.fromEntries(form)), type: 'application/json' }
    : { body: form.toString(), type: 'application/x-www-form-urlencoded;charset=UTF-8' }
