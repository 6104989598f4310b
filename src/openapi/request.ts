/** A request out of the arguments of a tool. Pure, and the one place where an argument becomes a part of a request. */
import { ownValue } from '#foundation/text'
import { bodyBytes } from './body-bytes.ts'
import { escapeAll, escapeReserved } from './escape.ts'
import { inlineText, namedPairs } from './expand.ts'
import { isObject } from './json.ts'
import { essence, isJson, kindOf } from './media.ts'
import { isCallersHeader } from './parameters.ts'
import { fillPath } from './path.ts'
import { argumentRefused } from './argument-refused.ts'
import type { ApiRequest, Operation, Parameter, RequestBody, Value } from './tool.ts'

/** The arguments of a call. */
export type Arguments = Readonly<Record<string, unknown>>

const valueOf = (value: Value, args: Arguments): unknown =>
  value.from === 'file' ? value.value : (ownValue(args, value.argument) ?? value.default)

/** The name by which a caller knows a parameter. */
const argumentOf = ({ name, value }: Parameter): string => (value.from === 'argument' ? value.argument : name)

/** A member of an object may not pass for another parameter, such as one that the file fixes. */
const checkMembers = (parameter: Parameter, value: unknown, siblings: readonly Parameter[]): void => {
  if (!isObject(value)) return
  const isSpread = parameter.explode && parameter.style !== 'deepObject'
  const names = new Set(siblings.filter((each) => each !== parameter).map(({ name }) => name))
  const wrong = Object.keys(value).find((key) => (isSpread ? names.has(key) : /[[\]]/.test(key)))
  if (wrong !== undefined && (isSpread || parameter.style === 'deepObject'))
    throw argumentRefused(argumentOf(parameter), 'one of its members has the name of another parameter')
}

const queryPairs = (parameter: Parameter, value: unknown, siblings: readonly Parameter[]): string[] => {
  const { name, style, explode, allowReserved, mediaType } = parameter
  const escape = allowReserved ? escapeReserved : escapeAll
  if (mediaType !== undefined) return [`${escapeAll(name)}=${escape(contentText(mediaType, value))}`]
  checkMembers(parameter, value, siblings)
  return namedPairs({ name, style, explode, escape }, value).map((pair) => pair.join('='))
}

const contentText = (mediaType: string, value: unknown): string =>
  isJson(mediaType) || typeof value !== 'string' ? JSON.stringify(value) : value

/** `in: querystring` of 3.2: one value is all of the query string. */
const wholeQuery = (parameter: Parameter, value: unknown): string => {
  if (kindOf(parameter.mediaType ?? '') !== 'form' || !isObject(value))
    return escapeAll(contentText(parameter.mediaType ?? '', value))
  return Object.entries(value)
    .flatMap(([name, each]) => namedPairs({ name, style: 'form', explode: true, escape: escapeAll }, each))
    .map((pair) => pair.join('='))
    .join('&')
}

/** Field values of RFC 9110 section 5.5: neither control characters nor what is not ASCII. */
const FIELD_VALUE = /^[\x20-\x7e]*$/

const headerText = (parameter: Parameter, value: unknown): string => {
  const { name, style, explode, mediaType } = parameter
  if (!isCallersHeader(name)) throw argumentRefused(argumentOf(parameter), `the header ${name} is never an argument`)
  const text =
    mediaType === undefined
      ? inlineText({ name, style, explode, escape: (each) => each }, value)
      : contentText(mediaType, value)
  if (!FIELD_VALUE.test(text))
    throw argumentRefused(
      argumentOf(parameter),
      'it goes into a header, so that it is printable ASCII without line breaks',
    )
  return text.trim()
}

/** RFC 6265 section 4.1.1; `style: form` escapes, and `style: cookie` (3.2) does not. */
const COOKIE_VALUE = /^[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*$/
const COOKIE_NAME = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/

const cookieText = (parameter: Parameter, value: unknown, siblings: readonly Parameter[]): string => {
  const { name, style, explode, mediaType } = parameter
  if (mediaType !== undefined) return `${escapeAll(name)}=${escapeAll(contentText(mediaType, value))}`
  checkMembers(parameter, value, siblings)
  const isPlain = style === 'cookie'
  const pairs = namedPairs({ name, style: 'form', explode, escape: isPlain ? (text) => text : escapeAll }, value)
  if (
    isPlain &&
    pairs.some(([key, text]) => !COOKIE_NAME.test(key) || !text.split(',').every((each) => COOKIE_VALUE.test(each)))
  )
    throw argumentRefused(argumentOf(parameter), 'it goes into a cookie, so that it has neither spaces nor ";"')
  return pairs.map((pair) => pair.join('=')).join(isPlain ? '; ' : '&')
}

const bodyValue = ({ value }: RequestBody, args: Arguments): unknown => {
  if (value.from === 'whole') return valueOf(value.value, args)
  const members = value.properties.flatMap(({ name, value: from }) => {
    const found = valueOf(from, args)
    return found === undefined ? [] : [[name, found] as const]
  })
  return members.length === 0 ? undefined : Object.fromEntries(members)
}

/** Media types that the operation answers with, JSON first. */
const acceptOf = ({ answers }: Operation): string => {
  const types = [...new Set(answers.flatMap(({ mediaTypes }) => mediaTypes.map(essence)))].filter((type) =>
    /^[\x21-\x7e]{3,100}$/.test(type),
  )
  if (types.length === 0) return '*/*'
  return types
    .sort((a, b) => Number(isJson(b)) - Number(isJson(a)))
    .slice(0, 10)
    .join(', ')
}

/**
 * The request of a call. The arguments were validated against the schema of the tool.
 * @throws DeputyError `argument_refused` for a value that would change more than its own place
 */
export const buildRequest = (operation: Operation, args: Arguments): ApiRequest => {
  const { parameters, method, origin } = operation
  const given = parameters.flatMap((parameter) => {
    const value = valueOf(parameter.value, args)
    return value === undefined || value === null ? [] : [{ parameter, value }]
  })
  try {
    const of = (place: Parameter['in']): typeof given => given.filter(({ parameter }) => parameter.in === place)
    const siblings = (place: Parameter['in']): Parameter[] => parameters.filter((each) => each.in === place)
    const whole = of('querystring').map(({ parameter, value }) => wholeQuery(parameter, value))
    const query = of('query').flatMap(({ parameter, value }) => queryPairs(parameter, value, siblings('query')))
    const cookies = of('cookie').map(({ parameter, value }) => cookieText(parameter, value, siblings('cookie')))
    const text = [...whole, ...query].filter((each) => each !== '').join('&')
    const content = operation.body === undefined ? undefined : bodyValue(operation.body, args)
    const needsBody = operation.body?.required === true && operation.body.value.from === 'properties'
    const body =
      operation.body === undefined || (content === undefined && !needsBody)
        ? undefined
        : bodyBytes(operation.body, content ?? {})
    return {
      method,
      origin,
      path:
        fillPath(
          operation.path,
          parameters,
          (parameter) => given.find((each) => each.parameter === parameter)?.value,
        ) || '/',
      query: text === '' ? '' : `?${text}`,
      headers: [
        'accept',
        acceptOf(operation),
        ...of('header').flatMap(({ parameter, value }) => [parameter.name.toLowerCase(), headerText(parameter, value)]),
        ...(cookies.filter((each) => each !== '').length === 0
          ? []
          : ['cookie', cookies.filter((each) => each !== '').join('; ')]),
        ...(body === undefined ? [] : ['content-type', body.type]),
      ],
      ...(body === undefined ? {} : { body: body.body }),
    }
  } catch (error) {
    // encodeURIComponent on half of a pair of surrogates.
    if (error instanceof URIError) throw argumentRefused('a text', 'it has half of a character in it')
    throw error
  }
}
