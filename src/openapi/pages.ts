/** Answers that come in pages: how the next one is asked for, and how they become one answer. */
import { queryValue, withParameter } from '#foundation/text'
import { parseJson } from './answer.ts'
import { isObject, stepsOf } from './json.ts'
import { valueAt } from './projection.ts'
import type { ApiAnswer, ApiRequest, Operation, Pagination } from './tool.ts'

const bodyOf = ({ body, isCut }: ApiAnswer): unknown => (isCut ? undefined : parseJson(body.toString('utf8'))?.value)

/** A link of RFC 8288 section 3; the parameters are read as far as `rel` needs them. */
const LINK = /<([^<>]{0,4000})>((?:\s*;\s*[\w!#$&+.^`|~-]+\*?\s*(?:=\s*(?:"[^"]{0,1000}"|[^\s",;]{0,1000}))?)*)/g
const REL = /;\s*rel\s*=\s*(?:"([^"]*)"|([^\s",;]+))/i

const nextLink = ({ headers }: ApiAnswer): string | undefined => {
  for (let at = 0; at < headers.length; at += 2) {
    if (headers[at]!.toLowerCase() !== 'link') continue
    for (const [, target, parameters] of headers[at + 1]!.slice(0, 20_000).matchAll(LINK)) {
      const [, quoted, plain] = REL.exec(parameters ?? '') ?? []
      if ((quoted ?? plain ?? '').toLowerCase().split(/\s+/).includes('next')) return target
    }
  }
  return undefined
}

/** The query of a link that leads to the same resource: an answer cannot send the credential anywhere else. */
const linkedQuery = (answer: ApiAnswer, { origin, path, query }: ApiRequest): string | undefined => {
  const link = nextLink(answer)
  const url = link === undefined ? null : URL.parse(link, `${origin}${path}${query}`)
  if (url === null || url.origin !== new URL(origin).origin) return undefined
  return url.pathname === new URL(`${origin}${path}`).pathname ? url.search : undefined
}

/** The query of the next page; undefined where the answer is the last one. */
const nextQuery = (pagination: Pagination, request: ApiRequest, answer: ApiAnswer): string | undefined => {
  if (pagination.by === 'link') return linkedQuery(answer, request)
  const body = bodyOf(answer)
  if (pagination.by === 'cursor') {
    const next = valueAt(body, pagination.next)
    // Half of a character has no form in a URL.
    const isValue = (typeof next === 'string' && next !== '' && next.isWellFormed()) || typeof next === 'number'
    return isValue ? withParameter(request.query, pagination.parameter, String(next)) : undefined
  }
  const items = valueAt(body, pagination.items)
  if (!Array.isArray(items) || items.length === 0) return undefined
  const current = Number(queryValue(request.query, pagination.parameter) ?? 1)
  return Number.isSafeInteger(current)
    ? withParameter(request.query, pagination.parameter, String(current + 1))
    : undefined
}

/**
 * The request for the page after those that have come; undefined where they are all, or as many as the file allows. A
 * page that answers with its own cursor is the last one.
 */
export const nextPage = (
  { pagination }: Pick<Operation, 'pagination'>,
  request: ApiRequest,
  answers: readonly ApiAnswer[],
): ApiRequest | undefined => {
  const last = answers.at(-1)
  if (pagination === undefined || last === undefined || answers.length >= pagination.pages) return undefined
  if (last.status < 200 || last.status >= 300) return undefined
  const query = nextQuery(pagination, request, last)
  return query === undefined || query === request.query ? undefined : { ...request, query }
}

/** A value with another one at a JSON pointer. */
const withValueAt = (value: unknown, steps: readonly string[], put: unknown): unknown => {
  const [step, ...rest] = steps
  if (step === undefined) return put
  return isObject(value) ? { ...value, [step]: withValueAt(value[step], rest, put) } : value
}

/**
 * The answers as one: the first, with the items of all. An answer that is no page of items ends the list, and is the
 * answer if it failed.
 */
export const joinPages = (
  { pagination, limits }: Pick<Operation, 'pagination' | 'limits'>,
  answers: readonly ApiAnswer[],
): ApiAnswer => {
  const [first] = answers
  const failed = answers.find(({ status, isCut }) => status < 200 || status >= 300 || isCut)
  if (first === undefined) throw new TypeError('there is no answer')
  if (failed !== undefined || pagination === undefined || answers.length === 1) return failed ?? first
  const pointer = pagination.items ?? ''
  const items = answers.flatMap((answer) => {
    const found = valueAt(bodyOf(answer), pointer)
    return Array.isArray(found) ? (found as unknown[]) : []
  })
  const body = Buffer.from(JSON.stringify(withValueAt(bodyOf(first), stepsOf(pointer), items)))
  return { ...first, body, isCut: body.length > limits.maxBytes }
}
