/** The body of a request out of arguments. */
import { argumentRefused } from './argument-refused.ts'
import { escapeAll, escapeReserved } from './escape.ts'
import { namedPairs, primitiveText } from './expand.ts'
import { fileOf } from './file-argument.ts'
import { isObject } from './json.ts'
import { essence, isJson, kindOf } from './media.ts'
import { multipartBody, type Part } from './multipart.ts'
import { ownValue } from '#foundation/text'
import type { PropertyEncoding, RequestBody } from './tool.ts'

/** A body, and its content type. */
export interface BodyBytes {
  readonly type: string
  readonly body: Buffer
}

const jsonText = (argument: string, value: unknown): string => {
  try {
    return JSON.stringify(value)
  } catch {
    throw argumentRefused(argument, 'it is nested too deeply')
  }
}

const formPairs = (name: string, value: unknown, encoding: PropertyEncoding): [string, string][] => {
  const { style, explode, allowReserved, contentType } = encoding
  const escape = allowReserved === true ? escapeReserved : escapeAll
  // An object without a style is sent as JSON (OpenAPI 3.1.1, Encoding Object, `contentType`).
  const isData =
    style === undefined &&
    explode === undefined &&
    (isObject(value) || (contentType !== undefined && isJson(contentType)))
  if (isData) return [[escape(name), escape(jsonText(name, value))]]
  return namedPairs({ name, style: style ?? 'form', explode: explode ?? (style ?? 'form') === 'form', escape }, value)
}

const CONCRETE_TYPE = /^[a-z0-9!#$&^_.+-]+\/[a-z0-9!#$&^_.+-]+(; ?[a-z0-9-]+=[a-z0-9._-]+)*$/i

/** The first media type that an encoding names, unless it is a range. */
const typeOf = ({ contentType }: PropertyEncoding): string | undefined => {
  const first = contentType?.split(',', 1)[0]!.trim()
  return first !== undefined && CONCRETE_TYPE.test(first) ? first : undefined
}

const partOf = (name: string, value: unknown, encoding: PropertyEncoding): Part => {
  const named = typeOf(encoding)
  if (encoding.isBinary === true) {
    const { bytes, mediaType, name: fileName } = fileOf(name, value)
    return { name, bytes, fileName: fileName ?? name, mediaType: mediaType ?? named ?? 'application/octet-stream' }
  }
  if (typeof value === 'object' && value !== null) {
    const mediaType = named !== undefined && isJson(named) ? named : 'application/json'
    return { name, mediaType, bytes: Buffer.from(jsonText(name, value)) }
  }
  const text = named !== undefined && isJson(named) ? jsonText(name, value) : primitiveText(value)
  return { name, bytes: Buffer.from(text), ...(named === undefined ? {} : { mediaType: named }) }
}

const partsOf = (name: string, value: unknown, encoding: PropertyEncoding): Part[] => {
  const isList =
    Array.isArray(value) && (typeOf(encoding) === undefined || !isJson(typeOf(encoding)!) || encoding.isBinary)
  return isList ? (value as unknown[]).map((each) => partOf(name, each, encoding)) : [partOf(name, value, encoding)]
}

const membersOf = (value: unknown): [string, unknown][] => {
  if (!isObject(value)) throw argumentRefused('body', 'it is no object')
  return Object.entries(value).filter(([, each]) => each !== undefined && each !== null)
}

/** @param value the object of the properties, or what the one argument holds */
export const bodyBytes = ({ kind, mediaType, encoding }: RequestBody, value: unknown): BodyBytes => {
  const of = (name: string): PropertyEncoding => ownValue(encoding, name) ?? {}
  switch (kind) {
    case 'json':
      return { type: mediaType, body: Buffer.from(jsonText('body', value)) }
    case 'form': {
      const pairs = membersOf(value).flatMap(([name, each]) => formPairs(name, each, of(name)))
      return { type: essence(mediaType), body: Buffer.from(pairs.map((pair) => pair.join('=')).join('&')) }
    }
    case 'multipart':
      return multipartBody(
        essence(mediaType),
        membersOf(value).flatMap(([name, each]) => partsOf(name, each, of(name))),
      )
    case 'text':
      return {
        type:
          mediaType.includes('charset') || !mediaType.startsWith('text/') ? mediaType : `${mediaType}; charset=utf-8`,
        body: Buffer.from(typeof value === 'string' ? value : jsonText('body', value)),
      }
    case 'binary': {
      const { bytes, mediaType: own } = fileOf('body', value)
      return {
        type:
          own !== undefined && kindOf(mediaType) === 'binary' && mediaType.includes('octet-stream') ? own : mediaType,
        body: bytes,
      }
    }
  }
}
