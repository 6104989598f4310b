import { GetObjectCommand, PutObjectCommand, S3Client, S3ServiceException } from '@aws-sdk/client-s3'
import { createHash } from 'node:crypto'
import { DeliveryError } from '#foundation/audit'
import type { AwsAccount } from './credentials.ts'
import { clientSettings } from './deadline.ts'
import { sdkProblem } from './problem.ts'

export interface BucketOptions extends AwsAccount {
  readonly endpoint?: string | undefined
  readonly bucket: string
  /** Before the names of objects. */
  readonly prefix: string
  /** Object Lock: until when an object cannot be removed or replaced, from the time it is put (ms). */
  readonly retain?: { readonly mode: 'governance' | 'compliance'; readonly for: number } | undefined
  /** ms for one attempt. */
  readonly timeout: number
  readonly now: () => number
}

const MODES = { governance: 'GOVERNANCE', compliance: 'COMPLIANCE' } as const

/** https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html: the name was there before. */
const isTaken = (error: unknown): boolean =>
  error instanceof S3ServiceException && error.$metadata.httpStatusCode === 412

const isMissing = (error: unknown): boolean => error instanceof S3ServiceException && error.name === 'NoSuchKey'

const failure = (error: unknown): DeliveryError => {
  const { problem, answered } = sdkProblem(error)
  return new DeliveryError(problem, { answered })
}

/**
 * Objects of a bucket of S3, or of a service that is compatible, that are written once: with `If-None-Match`, the
 * SHA-256 of the content, and Object Lock where the settings ask for it. The SDK makes its own connections: the
 * endpoint is one of AWS or of the settings.
 */
export const openBucket = (options: BucketOptions) => {
  const { bucket: Bucket, prefix, retain, now, endpoint } = options
  const client = new S3Client({
    ...clientSettings(options),
    // A name of a bucket is no host name at most compatible services.
    forcePathStyle: endpoint !== undefined,
    // Those of the trailer of a chunked upload are unknown to some of them; the SHA-256 below is sent in a header.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
  })
  const lock = () =>
    retain === undefined
      ? {}
      : { ObjectLockMode: MODES[retain.mode], ObjectLockRetainUntilDate: new Date(now() + retain.for) }
  return {
    /** @returns false where an object of the name exists already */
    async put(name: string, content: Buffer, signal: AbortSignal): Promise<boolean> {
      const command = new PutObjectCommand({
        Bucket,
        Key: `${prefix}${name}`,
        Body: content,
        ContentType: 'application/x-ndjson',
        ChecksumAlgorithm: 'SHA256',
        ChecksumSHA256: createHash('sha256').update(content).digest('base64'),
        IfNoneMatch: '*',
        ...lock(),
      })
      try {
        await client.send(command, { abortSignal: signal })
        return true
      } catch (error) {
        if (isTaken(error)) return false
        throw failure(error)
      }
    },
    /** Undefined where there is no object of the name. @throws Error for one that is longer than `longest` bytes */
    async get(name: string, longest: number, signal: AbortSignal): Promise<Buffer | undefined> {
      const command = new GetObjectCommand({ Bucket, Key: `${prefix}${name}` })
      const found = await client.send(command, { abortSignal: signal }).catch((error: unknown) => {
        if (isMissing(error)) return undefined
        throw failure(error)
      })
      if (found === undefined) return undefined
      if ((found.ContentLength ?? Infinity) > longest)
        throw new Error(`the object ${prefix}${name} is longer than a segment can be`)
      return Buffer.from(await found.Body!.transformToByteArray())
    },
    close(): Promise<void> {
      client.destroy()
      return Promise.resolve()
    },
  }
}
