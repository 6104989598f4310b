import { DecryptCommand, EncryptCommand, KMSClient } from '@aws-sdk/client-kms'
import { refuse } from '#errors'
import type { KeyEncryptionKey } from '#foundation/crypto'
import type { AwsAccount } from './credentials.ts'
import { clientSettings, OUTERMOST, withinDeadline } from './deadline.ts'
import { awsProblem } from './problem.ts'

/**
 * What KMS says of what it has not encrypted, or not for this context
 * (https://docs.aws.amazon.com/kms/latest/APIReference/API_Decrypt.html).
 */
const UNAUTHENTIC = 'InvalidCiphertextException'
/**
 * It was encrypted by another key than the one that was named; or that may be so, and the key's policy refuses first.
 */
const MAYBE_OTHER_KEY = /^(IncorrectKey|AccessDenied)Exception$/

const PREFIX = 'aws-kms:'
/** Partition, region and account of a key's ARN: an alias never leads out of them. */
const placeOf = (arn: string): string => arn.split(':').slice(0, 5).join(':')

/**
 * A symmetric key in AWS KMS (https://docs.aws.amazon.com/kms/latest/APIReference/API_Encrypt.html). What a data key belongs to is
 * its encryption context, without which KMS does not open it. An alias may be moved to another key: what was wrapped
 * is known by the ARN
 * that `Encrypt` answered, so it opens as before, and is wrapped by the other key with the next rotation of keys.
 */
export const kmsKey = (options: { id: string; key: string; client: KMSClient }): KeyEncryptionKey => {
  const { id, key, client } = options
  const failed = awsProblem(id)
  const contextOf = (additionalData: Uint8Array): Record<string, string> => ({
    deputy: Buffer.from(additionalData).toString('base64'),
  })
  const present = <T>(given: T | undefined): T => {
    if (given === undefined)
      throw refuse('secret_backend_unavailable', {
        backend: id,
        problem: 'its answer is not what its documentation says',
      })
    return given
  }
  const encrypt = async (plaintext: Uint8Array, additionalData: Uint8Array) => {
    try {
      const answer = await client.send(
        new EncryptCommand({ KeyId: key, Plaintext: plaintext, EncryptionContext: contextOf(additionalData) }),
      )
      return { arn: present(answer.KeyId), bytes: present(answer.CiphertextBlob) }
    } catch (error) {
      throw failed(error)
    }
  }
  const decrypt = async (KeyId: string, wrapped: Uint8Array, additionalData: Uint8Array): Promise<Uint8Array> =>
    present(
      (
        await client.send(
          new DecryptCommand({ KeyId, CiphertextBlob: wrapped, EncryptionContext: contextOf(additionalData) }),
        )
      ).Plaintext,
    )
  /**
   * The key that has wrapped it, where the alias has left that since. A file names no key of another account or region.
   */
  const earlierKey = async (wrappedBy: string): Promise<string | undefined> => {
    const arn = wrappedBy.slice(PREFIX.length)
    if (!arn.startsWith('arn:')) return undefined
    const current = (await encrypt(new Uint8Array(1), new Uint8Array(1))).arn
    return arn !== current && placeOf(arn) === placeOf(current) ? arn : undefined
  }
  return {
    id: `${PREFIX}${key}`,
    hasVersions: true,
    // By whichever key: only KMS knows where an alias has led.
    knows: (other) => other.startsWith(PREFIX),
    async wrap(dataKey, additionalData) {
      const { arn, bytes } = await encrypt(dataKey, additionalData)
      return { id: `${PREFIX}${arn}`, bytes }
    },
    async unwrap(wrappedBy, wrapped, additionalData) {
      try {
        return await decrypt(key, wrapped, additionalData).catch(async (error: unknown) => {
          const other = MAYBE_OTHER_KEY.test((error as Error).name)
            ? await earlierKey(wrappedBy).catch(() => undefined)
            : undefined
          if (other === undefined) throw error
          return decrypt(other, wrapped, additionalData)
        })
      } catch (error) {
        if (error instanceof Error && error.name === UNAUTHENTIC) throw error
        throw failed(error)
      }
    },
  }
}

export const createKmsClient = (
  options: AwsAccount & { endpoint?: string | undefined; timeout: number },
): KMSClient => {
  const client = new KMSClient(clientSettings(options))
  client.middlewareStack.add((next) => (args) => withinDeadline(options.timeout, () => next(args)), OUTERMOST)
  return client
}
