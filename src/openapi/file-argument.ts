import { argumentRefused } from './argument-refused.ts'

/** A file of an argument. */
export interface FileArgument {
  readonly bytes: Buffer
  readonly mediaType?: string
  readonly name?: string
}

const BASE64 = /^[A-Za-z0-9+/_-]*={0,2}$/
const MEDIA_TYPE = /^[a-z0-9!#$&^_.+-]{1,60}\/[a-z0-9!#$&^_.+-]{1,60}$/i

const parameterOf = (parts: readonly string[], names: readonly string[]): string | undefined => {
  const found = parts.find((part) => names.includes(part.split('=', 1)[0]!.toLowerCase()))
  return found === undefined ? undefined : decodeURIComponent(found.slice(found.indexOf('=') + 1))
}

/**
 * A file out of base64 (RFC 4648 section 4 or 5) or a data: URI (RFC 2397), whose parameter `name` is the name of the
 * file.
 * @throws DeputyError `argument_refused`
 */
export const fileOf = (argument: string, value: unknown): FileArgument => {
  if (typeof value !== 'string') throw argumentRefused(argument, 'it is a file: base64, or a data: URI')
  try {
    if (!value.startsWith('data:')) return { bytes: decode(value) }
    const comma = value.indexOf(',')
    if (comma < 0 || comma > 1000) throw new Error('no comma')
    const [mediaType = '', ...parts] = value.slice(5, comma).split(';')
    const name = parameterOf(parts, ['name', 'filename'])
    const data = value.slice(comma + 1)
    return {
      bytes: parts.some((part) => part.toLowerCase() === 'base64')
        ? decode(data)
        : Buffer.from(decodeURIComponent(data)),
      ...(MEDIA_TYPE.test(mediaType) ? { mediaType: mediaType.toLowerCase() } : {}),
      ...(name === undefined ? {} : { name }),
    }
  } catch {
    throw argumentRefused(argument, 'it is neither base64 nor a data: URI')
  }
}

const decode = (text: string): Buffer => {
  const plain = text.replace(/[\r\n]/g, '')
  if (!BASE64.test(plain)) throw new Error('no base64')
  return Buffer.from(plain, 'base64')
}
