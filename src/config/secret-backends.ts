import { z } from 'zod'
import {
  awsExternalIdSchema,
  awsRegionSchema,
  awsRoleSchema,
  durationSchema,
  localReferenceSchema,
  timeoutSchema,
  urlSchema,
} from './values.ts'

const SEGMENTS = z
  .string()
  .regex(/^[A-Za-z0-9/._{}-]{1,256}$/, 'use letters, digits, "/", ".", "_", "-" and the placeholders')
  .refine((path) => !path.startsWith('/'), 'write the path without a slash before it')
/**
 * https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_CreateSecret.html: a slash before a name is part
 * of it. Without the six characters that AWS adds to a name, an ARN is one of every secret with that name.
 */
const ARN = /^arn:aws[a-z-]*:secretsmanager:([a-z0-9-]+):\d{12}:secret:/
const AWS_NAME = z
  .string()
  .max(512)
  .refine(
    (path) => /^[A-Za-z0-9/._+=@{}-]{1,256}$/.test(path.replace(ARN, '')),
    'write a name, or an ARN that ends in one: letters, digits, "/", ".", "_", "+", "=", "@", "-" and the placeholders',
  )

const pathOf = (kind: string, form = SEGMENTS) =>
  form
    .refine(
      (path) => !path.endsWith('/') && !path.includes('//') && !/(^|\/)\.{1,2}(\/|$)/.test(path),
      'write segments with / between them, none of them empty, "." or ".."',
    )
    // Ids hold no slash: with one between the placeholders no two secrets of two tenants share a path.
    .refine(
      (path) =>
        /\{tenant\}[^{}]*\/[^{}]*\{secret\}|\{secret\}[^{}]*\/[^{}]*\{tenant\}/.test(path) &&
        (path.match(/[{}]/g) ?? []).length === 4,
      'write {tenant} and {secret} once each, with a / between them',
    )
    .default('deputy/{tenant}/{secret}')
    .describe(`${kind} of a secret, with {tenant} and {secret} in it.`)

const mountSchema = z
  .string()
  .regex(/^[A-Za-z0-9_-]+(\/[A-Za-z0-9_-]+)*$/, 'write the path of the mount without slashes around it')

const vaultLoginSchema = z.union([
  z
    .strictObject({ token: localReferenceSchema })
    .describe('A token that was issued outside of Deputy; Deputy renews it.'),
  z
    .strictObject({
      approle: z.strictObject({
        mount: mountSchema.default('approle').describe('Mount of the method.'),
        role: z.string().min(1).describe('Name of the role; a wrapped secret id must have been made for it.'),
        role_id: z.union([z.string().min(1), localReferenceSchema]).describe('The role id.'),
        secret_id: localReferenceSchema.describe('The secret id.'),
        wrapped: z
          .boolean()
          .default(false)
          .describe('Whether `secret_id` is a wrapping token that contains the secret id and can be used once.'),
      }),
    })
    .describe('AppRole.'),
  z
    .strictObject({
      kubernetes: z.strictObject({
        mount: mountSchema.default('kubernetes').describe('Mount of the method.'),
        role: z.string().min(1).describe('Role.'),
        token: z
          .string()
          .default('/var/run/secrets/kubernetes.io/serviceaccount/token')
          .describe('File with the service-account token.'),
      }),
    })
    .describe('Login with the service account of the pod.'),
  z
    .strictObject({
      jwt: z.strictObject({
        mount: mountSchema.default('jwt').describe('Mount of the method.'),
        role: z.string().min(1).describe('Role.'),
        token: z.string().min(1).describe('File with the JWT, read for each login.'),
      }),
    })
    .describe('A JWT.'),
])
export type VaultLogin = z.output<typeof vaultLoginSchema>

/** How a Vault is reached, wherever it is used. */
export const vaultAccess = {
  address: urlSchema.describe('Base URL, https; plain http only on this machine (a Vault Agent, for example).'),
  namespace: z
    .string()
    .regex(/^[A-Za-z0-9/_-]+$/)
    .optional()
    .describe('Namespace (Vault Enterprise, OpenBao).'),
  ca: z.string().min(1).optional().describe('PEM file with the certificate authority; absent: those of the system.'),
  login: vaultLoginSchema.describe('How Deputy logs in.'),
  timeout: timeoutSchema.default(3000).describe('Time limit for an answer.'),
}
export type VaultAccess = z.output<z.ZodObject<typeof vaultAccess>>

/** The region and the identity at AWS. */
export const awsAccount = {
  region: awsRegionSchema.describe('Region.'),
  endpoint: urlSchema.optional().describe('Another endpoint, such as that of a VPC endpoint.'),
  profile: z
    .string()
    .regex(/^[\w.@:/+=-]{1,128}$/)
    .optional()
    .describe('Profile of the shared AWS configuration from which credentials are taken; absent: the standard chain.'),
  role: awsRoleSchema
    .optional()
    .describe('ARN of a role that Deputy assumes with these credentials, for example in another account.'),
  external_id: awsExternalIdSchema.optional().describe('External id that the trust policy of the role requires.'),
}

const kept = {
  fresh: durationSchema.default(10_000).describe('How long a secret is used without reading it again.'),
  stale: durationSchema
    .default(900_000)
    .describe(
      'How long after it was read a secret is used while the backend does not answer; `deputy status` reports it.',
    ),
}

/** An external id goes to STS with a role. */
export const hasRoleForExternalId = (account: {
  role?: string | undefined
  external_id?: string | undefined
}): boolean => account.external_id === undefined || account.role !== undefined
export const EXTERNAL_ID_ALONE = { path: ['external_id'], error: 'write the role whose trust policy asks for it' }

/** `secrets.backends.<id>` in deputy.yaml: the backends of secrets in addition to the embedded one. */
export const secretBackendSchema = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('vault').describe('HashiCorp Vault or OpenBao.'),
    ...vaultAccess,
    ...kept,
    making_timeout: timeoutSchema
      .default(60_000)
      .describe(
        'Time limit for an engine to make or end a credential. Callers receive an answer after 12 s; a credential that arrives later is kept for the next request.',
      ),
    mount: mountSchema.default('secret').describe('Mount of the KV engine, version 2.'),
    path: pathOf('Path in the mount'),
    field: z
      .string()
      .regex(/^[A-Za-z0-9_.-]{1,64}$/)
      .nullable()
      .default('value')
      .describe('The field of an entry that is the secret; null: the entry as a whole, as JSON.'),
    pki: mountSchema.default('pki').describe('Mount of the PKI engine, for certificates.'),
    database: mountSchema.default('database').describe('Mount of the database engine, for dynamic credentials.'),
    aws: mountSchema.default('aws').describe('Mount of the AWS engine.'),
    gcp: mountSchema.default('gcp').describe('Mount of the Google Cloud engine.'),
    azure: mountSchema.default('azure').describe('Mount of the Azure engine.'),
  }),
  z
    .strictObject({
      kind: z.literal('aws').describe('AWS Secrets Manager; credentials come from the standard chain of the AWS SDK.'),
      ...awsAccount,
      ...kept,
      fresh: durationSchema
        .default(300_000)
        .describe(
          'How long a secret is used without reading it again. AWS bills each request (0.05 USD for 10,000): with five minutes there are at most 15 requests an hour for each secret in use and each node.',
        ),
      path: pathOf('Name, or ARN without the six characters at its end,', AWS_NAME),
      field: z
        .string()
        .min(1)
        .max(256)
        .nullable()
        .default(null)
        .describe('The field that is the secret, where a secret is a JSON object; null: the secret as a whole.'),
      timeout: timeoutSchema.default(3000).describe('Time limit for an answer.'),
    })
    .refine(hasRoleForExternalId, EXTERNAL_ID_ALONE)
    .refine(({ path, region }) => (ARN.exec(path)?.[1] ?? region) === region, {
      path: ['path'],
      error: 'write an ARN of the same region as `region`',
    }),
])
export type SecretBackendSettings = z.output<typeof secretBackendSchema>
export type SecretBackendSettingsOf<Kind extends SecretBackendSettings['kind']> = Extract<
  SecretBackendSettings,
  { kind: Kind }
>

/** Under which name what an engine of a backend makes is kept as leases: no id has a slash. */
export const leasedBy = (backend: string, engine: 'database' | 'pki' | 'aws' | 'gcp' | 'azure'): string =>
  engine === 'database' ? backend : `${backend}/${engine}`

/** The path of a tenant's secret. */
export const pathFor = (template: string, tenant: string, secret: string): string =>
  template.replace('{tenant}', tenant).replace('{secret}', secret)
