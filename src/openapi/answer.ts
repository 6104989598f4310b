/** An answer of an API as the result of a tool. */
import { essence, isJson, isText } from './media.ts'
import { conforming } from './conforming.ts'
import { isDeeperThan, isObject } from './json.ts'
import { project } from './projection.ts'
import type { AnswerForm, ApiAnswer, ApiTool, ToolAnswer, ToolContent } from './tool.ts'
import { deviationsOf } from './validate.ts'

/** Characters of an error that a model reads. */
const MAX_ERROR = 4000

const headerOf = ({ headers }: ApiAnswer, name: string): string | undefined => {
  const at = headers.findIndex((each, index) => index % 2 === 0 && each.toLowerCase() === name)
  return at < 0 ? undefined : headers[at + 1]
}

/** The form that the document has for a status: the status itself, its class, or the default. */
const formFor = (answers: readonly AnswerForm[], status: number): AnswerForm | undefined =>
  answers.find((each) => each.status === String(status)) ??
  answers.find((each) => each.status === `${Math.floor(status / 100)}XX`) ??
  answers.find((each) => each.status === 'default')

const textOf = (body: Buffer, contentType: string): string => {
  const charset = /charset="?([\w-]{1,40})/i.exec(contentType)?.[1] ?? 'utf-8'
  try {
    return new TextDecoder(charset).decode(body)
  } catch {
    return body.toString('utf8')
  }
}

/** Node passes the text of a number to the reviver (ECMA-262 JSON.parse source text access). */
type Reviver = (key: string, value: unknown, context?: { readonly source?: string }) => unknown

/** JSON, with integers that a number cannot hold as the text that they were. */
const exactly: Reviver = (_key, value, context) =>
  typeof value === 'number' &&
  Number.isInteger(value) &&
  !Number.isSafeInteger(value) &&
  /^-?\d+$/.test(context?.source ?? '')
    ? context!.source
    : value

const LONG_NUMBER = /\d{16}/

/** Deeper answers could not be written again, by Deputy as by the client's program: both run out of stack. */
const MAX_DEPTH = 200

/** @returns undefined where it is no JSON, or is nested deeper than 200 levels */
export const parseJson = (text: string): { readonly value: unknown } | undefined => {
  try {
    // Without a long number nothing is lost, and the reviver is called for each part.
    const value = (
      LONG_NUMBER.test(text) ? JSON.parse(text, exactly as (key: string, value: unknown) => unknown) : JSON.parse(text)
    ) as unknown
    return isDeeperThan(MAX_DEPTH, value) ? undefined : { value }
  } catch {
    return undefined
  }
}

const IMAGES = /^image\/(png|jpeg|gif|webp)$/
const AUDIO = /^audio\/[\w.+-]{1,40}$/

const binaryContent = ({ name }: ApiTool, type: string, body: Buffer): ToolContent => {
  const data = body.toString('base64')
  if (IMAGES.test(type)) return { type: 'image', data, mimeType: type }
  if (AUDIO.test(type)) return { type: 'audio', data, mimeType: type }
  const mimeType = type === '' ? 'application/octet-stream' : type
  return { type: 'resource', resource: { uri: `answer:${encodeURIComponent(name)}`, mimeType, blob: data } }
}

/** All of an answer as a text: what is no text is named. */
export const contentText = (content: readonly { readonly type: string; readonly text?: string }[]): string =>
  content.map(({ type, text }) => (type === 'text' ? (text ?? '') : `(${type})`)).join('\n')

const failed = (text: string, deviations: readonly string[] = []): ToolAnswer => ({
  isError: true,
  content: [{ type: 'text', text }],
  deviations,
})

const refusalOf = ({ operation }: ApiTool, answer: ApiAnswer, type: string): ToolAnswer => {
  const { status, body } = answer
  const retry = headerOf(answer, 'retry-after')
  const isReadable = isJson(type) || isText(type) || type === ''
  const words = isReadable ? textOf(body, type).trim().slice(0, MAX_ERROR) : `(${body.length} bytes of ${type})`
  return failed(
    [
      `The API answered ${operation.method} ${operation.path} with HTTP status ${status}.`,
      ...(retry !== undefined && /^[\x20-\x7e]{1,60}$/.test(retry) ? [`It may be called again after: ${retry}.`] : []),
      ...(words === '' ? [] : [words]),
    ].join('\n'),
  )
}

/** Structured content: an object in any case. */
const structuredOf = (tool: ApiTool, value: unknown): Readonly<Record<string, unknown>> => {
  if (tool.operation.wrapsAnswer) return { result: value }
  return isObject(value) ? value : {}
}

/** Of a longer answer (characters) the first difference is told, and whole members are left out. */
const MAX_COMPARED = 262_144

const jsonAnswer = async (
  tool: ApiTool,
  form: AnswerForm | undefined,
  text: string,
  value: unknown,
): Promise<ToolAnswer> => {
  const { projection } = tool.operation
  const finds = text.length > MAX_COMPARED ? 'first' : 'all'
  const deviations =
    form?.schema === undefined ? [] : await deviationsOf(form.schema, value, { finds, whole: 'The answer' })
  const part = projection === undefined ? value : project(value, projection)
  const shown = projection === undefined ? text : JSON.stringify(part ?? null)
  // The schema of the answer is that of structured content in most tools, so that the value has been compared already.
  const isCompared = projection === undefined && form?.schema === tool.outputSchema && deviations.length === 0
  const structured = structuredOf(tool, part)
  return {
    isError: false,
    ...(tool.outputSchema === undefined
      ? {}
      : { structured: isCompared ? structured : await conforming(tool.outputSchema, structured, finds) }),
    content: [{ type: 'text', text: shown }],
    deviations,
  }
}

/** A client refuses a result without structured content where the tool has an output schema. */
const without = (tool: ApiTool): Pick<ToolAnswer, 'structured'> =>
  tool.outputSchema === undefined ? {} : { structured: {} }

/** An answer as the result of its tool. Answers that differ from the document are told, and are no failure. */
export const readAnswer = async (tool: ApiTool, answer: ApiAnswer): Promise<ToolAnswer> => {
  const { status, body, isCut } = answer
  const { answers, limits } = tool.operation
  const contentType = headerOf(answer, 'content-type') ?? ''
  const type = essence(contentType)
  if (status < 200 || status >= 300) return refusalOf(tool, answer, type)
  const form = formFor(answers, status)
  const unknown = form === undefined ? [`The document has no answer with the status ${status}.`] : []
  if (body.length === 0)
    return {
      isError: false,
      ...without(tool),
      content: [{ type: 'text', text: `Done (HTTP status ${status}).` }],
      deviations: unknown,
    }
  const expectsJson = form?.mediaTypes.some(isJson) === true
  if (isJson(type) || (type === '' && expectsJson)) {
    if (isCut)
      return failed(
        `The answer is longer than ${limits.maxBytes} bytes, and a part of JSON says nothing. Ask for less, such as a page or a filter.`,
      )
    const text = textOf(body, contentType)
    const parsed = parseJson(text)
    if (parsed !== undefined) {
      const told = await jsonAnswer(tool, form, text, parsed.value)
      return { ...told, deviations: [...unknown, ...told.deviations] }
    }
    return {
      isError: false,
      ...without(tool),
      content: [{ type: 'text', text }],
      deviations: [...unknown, 'The answer is said to be JSON, and is not, or is nested deeper than 200 levels.'],
    }
  }
  if (isText(type) || type === '') {
    const text = textOf(body, contentType)
    const shown = isCut ? `${text}\n[The answer is longer than ${limits.maxBytes} bytes; the rest is left out.]` : text
    return { isError: false, ...without(tool), content: [{ type: 'text', text: shown }], deviations: unknown }
  }
  if (isCut) return failed(`The answer is a file of more than ${limits.maxBytes} bytes.`)
  return { isError: false, ...without(tool), content: [binaryContent(tool, type, body)], deviations: unknown }
}
