/** Bodies of multipart/form-data (RFC 7578). Pure: the boundary comes from the parts. */
import { createHash } from 'node:crypto'

export interface Part {
  readonly name: string
  readonly fileName?: string
  readonly mediaType?: string
  readonly bytes: Buffer
}

/** As browsers escape names (HTML Standard, multipart/form-data encoding algorithm). */
const escapeName = (text: string): string =>
  text
    .replaceAll('"', '%22')
    .replaceAll('\r', '%0D')
    .replaceAll('\n', '%0A')
    .replace(/\p{Cc}/gu, '_')

/** No part can hold the boundary: it would have to hold a hash of itself. */
const boundaryOf = (parts: readonly Part[]): string => {
  const hash = createHash('sha256')
  for (const { name, bytes } of parts) hash.update(`${name.length}:${name}${bytes.length}:`).update(bytes)
  return `deputy-${hash.digest('hex').slice(0, 40)}`
}

/** A body, and its content type. */
export const multipartBody = (
  mediaType: string,
  parts: readonly Part[],
): { readonly type: string; readonly body: Buffer } => {
  const boundary = boundaryOf(parts)
  const chunks = parts.flatMap(({ name, fileName, mediaType: type, bytes }) => [
    Buffer.from(
      `--${boundary}\r\nContent-Disposition: form-data; name="${escapeName(name)}"${
        fileName === undefined ? '' : `; filename="${escapeName(fileName)}"`
      }\r\n${type === undefined ? '' : `Content-Type: ${type}\r\n`}\r\n`,
    ),
    bytes,
    Buffer.from('\r\n'),
  ])
  return {
    type: `${mediaType}; boundary=${boundary}`,
    body: Buffer.concat([...chunks, Buffer.from(`--${boundary}--\r\n`)]),
  }
}
