import { DecryptCommand, EncryptCommand, KMSClient } from '@aws-sdk/client-kms'
import type { KeyEncryptionKey } from '../../crypto/key-encryption-key.ts'
import { refuse } from '../../errors.ts'
import { clientSettings, OUTERMOST, withinDeadline } from './deadline.ts'
import { awsProblem } from './problem.ts'

/**
 * A symmetric key in AWS KMS (https://docs.aws.amazon.com/kms/latest/APIReference/API_Encrypt.html). What a data key belongs to is
 * its encryption context, without which KMS does not open it.
 */
export const kmsKey = (options: { id: string; key: string; client: KMSClient }): KeyEncryptionKey => {
  const { id, key, client } = options
  const failed = awsProblem(id)
  const contextOf = (additionalData: Uint8Array): Record<string, string> => ({
    deputy: Buffer.from(additionalData).toString('base64'),
  })
  const bytes = (given: Uint8Array | undefined): Uint8Array => {
    if (given === undefined)
      throw refuse('secret_backend_unavailable', {
        backend: id,
        problem: 'its answer is not what its documentation says',
      })
    return given
  }
  return {
    id: `aws-kms:${key}`,
    hasVersions: true,
    knows: (other) => other === `aws-kms:${key}`,
    async wrap(dataKey, additionalData) {
      try {
        return bytes(
          (
            await client.send(
              new EncryptCommand({ KeyId: key, Plaintext: dataKey, EncryptionContext: contextOf(additionalData) }),
            )
          ).CiphertextBlob,
        )
      } catch (error) {
        throw failed(error)
      }
    },
    async unwrap(_id, wrapped, additionalData) {
      try {
        return bytes(
          (
            await client.send(
              new DecryptCommand({ KeyId: key, CiphertextBlob: wrapped, EncryptionContext: contextOf(additionalData) }),
            )
          ).Plaintext,
        )
      } catch (error) {
        throw failed(error)
      }
    },
  }
}

export const createKmsClient = (options: {
  region: string
  endpoint?: string | undefined
  timeout: number
}): KMSClient => {
  const client = new KMSClient(clientSettings(options))
  client.middlewareStack.add((next) => (args) => withinDeadline(options.timeout, () => next(args)), OUTERMOST)
  return client
}
