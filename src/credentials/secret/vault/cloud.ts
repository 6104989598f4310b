import { z } from 'zod'
import { Secret } from '#foundation/crypto'
import type { IssuedTokens, LeasedSecrets } from '../backend.ts'
import { readVault } from './client.ts'
import { createVaultLeases, type EngineOptions } from './lease.ts'

const SECOND_MS = 1000
/** The shortest session of STS (seconds): https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html */
const MIN_SESSION_S = 900

const text = z.string().min(1)

/** Older versions say `security_token`; keys of an IAM user have neither. */
const awsSchema = z
  .object({ access_key: text, secret_key: text, session_token: text.nullish(), security_token: text.nullish() })
  .transform(
    ({ access_key: AccessKeyId, secret_key: SecretAccessKey, session_token: session, security_token: older }) => {
      const SessionToken = session ?? older
      return new Secret(
        JSON.stringify({
          AccessKeyId,
          SecretAccessKey,
          ...(SessionToken === null || SessionToken === undefined ? {} : { SessionToken }),
        }),
      )
    },
  )

const keyFileSchema = z.looseObject({ type: z.literal('service_account') })
const isKeyFile = (file: string): boolean => {
  try {
    return keyFileSchema.safeParse(JSON.parse(file)).success
  } catch {
    return false
  }
}
const gcpKeySchema = z
  .object({ private_key_data: z.base64() })
  .transform(({ private_key_data: encoded }) => Buffer.from(encoded, 'base64').toString('utf8'))
  .refine(isKeyFile)
  .transform((file) => new Secret(file))
const gcpTokenSchema = z.object({ data: z.object({ token: text, expires_at_seconds: z.number().positive() }) })

const azureSchema = z
  .object({ client_id: text, client_secret: text })
  .transform(({ client_id, client_secret }) => new Secret(JSON.stringify({ client_id, client_secret })))

/**
 * Keys of Vault's AWS engine (https://developer.hashicorp.com/vault/api-docs/secret/aws#generate-credentials), as JSON with AccessKeyId,
 * SecretAccessKey and, where they are temporary, SessionToken. The role is `creds/NAME` or `sts/NAME`, perhaps with its parameters.
 */
export const createVaultAws = (options: EngineOptions): LeasedSecrets => {
  const { make, ...leases } = createVaultLeases(options)
  return {
    ...leases,
    make(role, wish) {
      const url = new URL(`https://vault/${options.mount}/${role}`)
      if (wish !== undefined) url.searchParams.set('role_session_name', wish.name)
      if (wish?.duration !== undefined)
        url.searchParams.set('ttl', `${Math.max(MIN_SESSION_S, Math.floor(wish.duration / SECOND_MS))}s`)
      return make(`${url.pathname.slice(1)}${url.search}`, awsSchema)
    },
  }
}

/**
 * Key files and tokens of Vault's Google Cloud engine (https://developer.hashicorp.com/vault/api-docs/secret/gcp): a role is `KIND/NAME/key` or
 * `KIND/NAME/token`. Tokens have no lease, and live until the moment that the answer says.
 */
export const createVaultGcp = (options: EngineOptions): LeasedSecrets & IssuedTokens => {
  const { id, mount, session } = options
  const { make, ...leases } = createVaultLeases(options)
  return {
    ...leases,
    make: (role) => make(`${mount}/${role}`, gcpKeySchema),
    async issue(role) {
      const { data } = readVault(id, await session.ask({ method: 'GET', path: `${mount}/${role}` }), gcpTokenSchema)
      return { value: new Secret(data.token), expiresAt: data.expires_at_seconds * SECOND_MS }
    },
  }
}

/** Client secrets of Vault's Azure engine (https://developer.hashicorp.com/vault/api-docs/secret/azure#generate-credentials). The role is `creds/NAME`. */
export const createVaultAzure = (options: EngineOptions): LeasedSecrets => {
  const { make, ...leases } = createVaultLeases(options)
  return { ...leases, make: (role) => make(`${options.mount}/${role}`, azureSchema) }
}
