import { z } from 'zod'
import { awsAccount, EXTERNAL_ID_ALONE, hasRoleForExternalId, vaultAccess } from './secret-backends.ts'
import { localReferenceSchema, timeoutSchema } from './values.ts'

/** `kek` in deputy.yaml: what wraps the data keys. */
export const keyEncryptionSchema = z.union([
  localReferenceSchema,
  z
    .strictObject({
      vault: z.strictObject({
        ...vaultAccess,
        mount: z
          .string()
          .regex(/^[A-Za-z0-9_/-]+$/)
          .default('transit')
          .describe('Mount of the transit engine.'),
        key: z
          .string()
          .regex(/^[A-Za-z0-9_.-]{1,128}$/)
          .describe('Name of a key that authenticates associated data (aes256-gcm96, chacha20-poly1305).'),
      }),
    })
    .describe('A key in the transit engine of Vault or OpenBao, which never leaves the engine.'),
  z
    .strictObject({
      aws: z
        .strictObject({
          ...awsAccount,
          key: z.string().min(1).max(2048).describe('Id or ARN of a symmetric key.'),
          timeout: timeoutSchema.default(3000).describe('Time limit for an answer.'),
        })
        .refine(hasRoleForExternalId, EXTERNAL_ID_ALONE),
    })
    .describe('A key in AWS KMS; credentials come from the standard chain of the AWS SDK.'),
])
export type KeyEncryptionSettings = z.output<typeof keyEncryptionSchema>
