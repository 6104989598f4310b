/** Signature Version 4, as https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html says it, for doubles that verify. */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'

const hmac = (key: string | Buffer, text: string): Buffer => createHmac('sha256', key).update(text).digest()
const digest = (text: string | Buffer): string => createHash('sha256').update(text).digest('hex')

export interface SignedRequest {
  readonly method: string
  readonly path: string
  readonly query: string
  readonly headers: IncomingHttpHeaders
  readonly body: Buffer
}

/** @param names signed headers, in their order, joined by `;` */
export const signatureOf = (
  { method, path, query, headers, body }: SignedRequest,
  names: string,
  by: { readonly secret: string; readonly date: string; readonly region: string; readonly service: string },
): Buffer => {
  const canonical = [
    method,
    path,
    query,
    ...names.split(';').map((name) => `${name}:${String(headers[name]).trim()}`),
    '',
    names,
    digest(body),
  ].join('\n')
  const toSign = [
    'AWS4-HMAC-SHA256',
    String(headers['x-amz-date']),
    `${by.date}/${by.region}/${by.service}/aws4_request`,
    digest(canonical),
  ].join('\n')
  const key = [by.date, by.region, by.service, 'aws4_request'].reduce<string | Buffer>(
    (before, part) => hmac(before, part),
    `AWS4${by.secret}`,
  )
  return hmac(key, toSign)
}

export interface ExpectedSigner {
  readonly accessKeyId: string
  readonly secretAccessKey: string
  readonly region: string
  readonly service: string
}

/** Whether that signer has signed it, with these headers at least. A signature is good for five minutes. */
export const isSigned = (request: SignedRequest, by: ExpectedSigner, headers: readonly string[]): boolean => {
  const match =
    /^AWS4-HMAC-SHA256 Credential=([^/]+)\/(\d{8})\/([^/]+)\/([^/]+)\/aws4_request, SignedHeaders=([^,]+), Signature=([0-9a-f]{64})$/.exec(
      request.headers.authorization ?? '',
    )
  if (match === null) return false
  const [, accessKeyId, date, region, service, names, signature] = match as unknown as [
    string,
    string,
    string,
    string,
    string,
    string,
    string,
  ]
  const time = String(request.headers['x-amz-date'])
  const age = Math.abs(
    Date.now() - Date.parse(time.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, '$1-$2-$3T$4:$5:$6Z')),
  )
  if (
    accessKeyId !== by.accessKeyId ||
    region !== by.region ||
    service !== by.service ||
    !time.startsWith(date) ||
    !(age < 300_000)
  )
    return false
  if (!['host', 'x-amz-date', ...headers].every((name) => names.split(';').includes(name))) return false
  return timingSafeEqual(
    signatureOf(request, names, { secret: by.secretAccessKey, date, region, service }),
    Buffer.from(signature, 'hex'),
  )
}
