import { refuse } from '#errors'

const decoder = new TextDecoder('utf-8', { fatal: true })
const MAX_PARAMETERS = 100

/**
 * The parameters of a request, in order. Nothing is dropped or repaired: a parameter that is sent twice is kept
 * twice, so that the reader decides whether that is allowed (RFC 6749 section 3.2).
 */
export class Form {
  readonly #values: Map<string, string[]>
  constructor(values: Map<string, string[]>) {
    this.#values = values
  }

  /** Undefined when absent or empty: RFC 6749 section 3.2 treats an empty parameter as omitted. @throws DeputyError `parameter_repeated` */
  optional(parameter: string): string | undefined {
    const values = this.#values.get(parameter)
    if (values === undefined) return undefined
    if (values.length > 1) throw refuse('parameter_repeated', { parameter })
    return values[0] === '' ? undefined : values[0]
  }

  /** @throws DeputyError `parameter_missing` also when empty, `parameter_repeated` */
  required(parameter: string): string {
    const value = this.optional(parameter)
    if (value === undefined) throw refuse('parameter_missing', { parameter })
    return value
  }

  /** Every value of a parameter that may be repeated; empty ones are left out. */
  all(parameter: string): string[] {
    return (this.#values.get(parameter) ?? []).filter((value) => value !== '')
  }
}

/** Parses `application/x-www-form-urlencoded` strictly. @throws DeputyError `malformed_request` on bytes or escapes that are no UTF-8 */
export const parseForm = (body: Uint8Array): Form => {
  const values = new Map<string, string[]>()
  let text
  try {
    text = decoder.decode(body)
  } catch {
    throw refuse('malformed_request', { problem: 'the body is not UTF-8' })
  }
  if (text === '') return new Form(values)
  const pairs = text.split('&')
  if (pairs.length > MAX_PARAMETERS)
    throw refuse('malformed_request', { problem: `more than ${MAX_PARAMETERS} parameters` })
  for (const pair of pairs) {
    if (pair === '') continue
    const at = pair.indexOf('=')
    const name = unescape(at < 0 ? pair : pair.slice(0, at))
    const value = at < 0 ? '' : unescape(pair.slice(at + 1))
    const known = values.get(name)
    if (known === undefined) values.set(name, [value])
    else known.push(value)
  }
  return new Form(values)
}

const unescape = (text: string): string => {
  if (!text.includes('%') && !text.includes('+')) return text
  try {
    return decodeURIComponent(text.replaceAll('+', ' '))
  } catch {
    throw refuse('malformed_request', { problem: 'a percent escape in the body is not UTF-8' })
  }
}
