import { z } from 'zod'
import {
  awsExternalIdSchema,
  awsRegionSchema,
  awsRoleSchema,
  idSchema,
  scopeSchema,
  secretReferenceSchema,
  urlSchema,
} from './values.ts'

/** What a tenant has at a cloud: its own, else that of every tenant; undefined: nothing. */
export const ofTenant = <T>(own: Readonly<Record<string, T>>, common: T | undefined, tenant: string): T | undefined =>
  Object.hasOwn(own, tenant) ? own[tenant] : common

const repositorySchema = z
  .string()
  .regex(/^[A-Za-z0-9._-]{1,100}$/, 'write the name of the repository without its owner')
const installationSchema = z.string().regex(/^\d{1,20}$/, 'write the number of the installation, in quotes')

/** https://docs.github.com/en/rest/apps/apps#create-an-installation-access-token-for-an-app */
export const githubApp = {
  credential: z
    .literal('github_app')
    .describe(
      'An installation token of a GitHub App, limited to the requested permissions and repositories. A scope is `permission:level`, such as `contents:read`, or `repo:NAME`.',
    ),
  api_url: urlSchema
    .default('https://api.github.com')
    .describe('URL of the API; for GitHub Enterprise Server `https://HOST/api/v3`.'),
  app: z
    .string()
    .regex(/^[A-Za-z0-9._-]{1,64}$/)
    .describe('Client id of the app, or its app id.'),
  key: secretReferenceSchema.describe('Private key of the app, PEM.'),
  installation: installationSchema
    .optional()
    .describe(
      'The installation for tenants without an entry in `installations`; absent: such tenants get no credentials.',
    ),
  installations: z.record(idSchema, installationSchema).default({}).describe('Installations by tenant.'),
  repositories: z
    .record(idSchema, z.array(repositorySchema).min(1).max(500))
    .default({})
    .describe('Repositories by tenant; a tenant without an entry has all repositories of its installation.'),
  permissions: z
    .record(scopeSchema, z.record(z.string().regex(/^[a-z_]{1,64}$/), z.enum(['read', 'write', 'admin'])))
    .default({})
    .describe('Permissions by scope, for scopes that are not named `permission:level`.'),
}

/** The subject of a token that Deputy signs for a cloud; the cloud compares `sub` as text. */
const subjectSchema = z
  .enum(['tenant', 'server', 'user'])
  .default('server')
  .describe(
    '`sub` of the token that Deputy signs: `tenant:ID`, `tenant:ID:server:ID`, or `tenant:ID:server:ID:user:NAME`.',
  )

/** https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html; what is in it is for AWS to judge. */
const statementSchema = z.looseObject({ Effect: z.enum(['Allow', 'Deny']) })

export const awsSts = {
  credential: z
    .literal('aws_sts')
    .describe(
      'Temporary keys of AWS, as JSON of the credential-process form (Version, AccessKeyId, SecretAccessKey, SessionToken, Expiration).',
    ),
  region: awsRegionSchema.describe('Region of the STS endpoint.'),
  endpoint: urlSchema.optional().describe('Endpoint to use instead of that of the region, such as one of PrivateLink.'),
  method: z
    .enum(['assume_role', 'web_identity', 'session_token'])
    .default('assume_role')
    .describe(
      'assume_role: a role, with the keys below. web_identity: a role, with a token that Deputy signs and no keys. session_token: the rights of the keys themselves for a limited time, which cannot be narrowed.',
    ),
  key: secretReferenceSchema
    .optional()
    .describe(
      'JSON with AccessKeyId, SecretAccessKey and optionally SessionToken; absent: credentials of the standard chain of the AWS SDK.',
    ),
  role: awsRoleSchema
    .optional()
    .describe('The role for tenants without an entry in `roles`; absent: such tenants get no credentials.'),
  roles: z.record(idSchema, awsRoleSchema).default({}).describe('Roles by tenant.'),
  external_id: awsExternalIdSchema
    .optional()
    .describe('The external id that the trust policy of the role requires (assume_role).'),
  statements: z
    .record(scopeSchema, z.array(statementSchema).min(1))
    .default({})
    .describe(
      'The session policy, by scope: each requested scope adds its statements, and nothing else is allowed. Absent: all rights of the role.',
    ),
  policy_arns: z
    .array(z.string().regex(/^arn:aws[a-z-]*:iam::(aws|\d{12}):policy\/[\w+=,.@/-]+$/))
    .max(10)
    .default([])
    .describe('Managed policies that apply to every session.'),
  tags: z
    .array(z.enum(['tenant', 'user', 'server']))
    .default([])
    .describe('Session tags, which policies at AWS read as `aws:PrincipalTag/tenant` and so on.'),
  transitive_tags: z
    .boolean()
    .default(false)
    .describe('The tags are passed on to roles that are assumed from the session.'),
  source_identity: z
    .enum(['none', 'user', 'server'])
    .default('none')
    .describe(
      '`aws:SourceIdentity` of the session, which CloudTrail keeps through every role that is assumed from it.',
    ),
  audience: z.string().min(1).default('sts.amazonaws.com').describe('`aud` of the token (web_identity).'),
  subject: subjectSchema,
}

const HOUR_MS = 3_600_000
/** The longest sessions: https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html, and API_GetSessionToken.html */
const MAX_SESSION_HOURS = { assume_role: 12, web_identity: 12, session_token: 36 } as const
/** Characters of a session policy: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html */
const MAX_POLICY = 2048

/** The session policy that STS is sent for these statements. */
export const sessionPolicyText = (statements: readonly object[]): string =>
  JSON.stringify({ Version: '2012-10-17', Statement: statements })

/** What STS would refuse with each request. */
export const checkAwsSts = (
  {
    method,
    lifetime,
    statements,
  }: {
    readonly method: keyof typeof MAX_SESSION_HOURS
    readonly lifetime?: number | undefined
    readonly statements: Readonly<Record<string, readonly object[]>>
  },
  context: z.RefinementCtx,
): void => {
  const hours = MAX_SESSION_HOURS[method]
  if (lifetime !== undefined && lifetime > hours * HOUR_MS)
    context.addIssue({ code: 'custom', path: ['lifetime'], message: `STS gives sessions of at most ${hours}h here` })
  const length = sessionPolicyText(Object.values(statements).flat()).length
  if (length > MAX_POLICY)
    context.addIssue({
      code: 'custom',
      path: ['statements'],
      message: `all scopes together make a session policy of ${length} characters, and STS takes ${MAX_POLICY}: shorten them, or write several downstreams`,
    })
}

const serviceAccountSchema = z.email().describe('A service account.')

/** https://cloud.google.com/iam/docs/workload-identity-federation-with-other-providers */
export const gcpSts = {
  credential: z
    .literal('gcp_sts')
    .describe(
      'An access token of Google Cloud by workload identity federation: Deputy signs a token, and no key is stored.',
    ),
  pool_provider: z
    .string()
    .regex(
      /^\/\/iam\.googleapis\.com\/projects\/\d+\/locations\/global\/workloadIdentityPools\/[a-z0-9-]{4,32}\/providers\/[a-z0-9-]{4,32}$/,
      'write //iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER',
    )
    .describe("The provider of the workload identity pool that trusts Deputy's issuer."),
  audience: z
    .string()
    .min(1)
    .optional()
    .describe('`aud` of the token that Deputy signs, where the provider expects an audience other than its own name.'),
  service_account: serviceAccountSchema
    .optional()
    .describe(
      'The service account for tenants without an entry in `service_accounts`; absent: the token is that of the federated identity.',
    ),
  service_accounts: z
    .record(idSchema, serviceAccountSchema)
    .default({})
    .describe(
      'Service accounts by tenant. With any entry, a tenant that has none gets no credentials unless `service_account` is set.',
    ),
  scope_prefix: z
    .string()
    .regex(/^[\x21\x23-\x5B\x5D-\x7E]*$/)
    .default('https://www.googleapis.com/auth/')
    .describe('Prefix of each scope at Google.'),
  subject: subjectSchema,
  sts_url: urlSchema.default('https://sts.googleapis.com/v1/token').describe('Endpoint of the token exchange.'),
  iam_url: urlSchema
    .default('https://iamcredentials.googleapis.com')
    .describe('URL of the API that issues tokens of service accounts.'),
}

const identitySchema = z.strictObject({
  directory: z
    .string()
    .regex(/^[A-Za-z0-9.-]{1,253}$/, 'write the id or a domain of the directory')
    .describe('The directory (tenant) at Entra ID.'),
  client_id: z
    .string()
    .regex(/^[0-9a-fA-F-]{36}$/, 'write the id of the application or managed identity')
    .describe("The application, or the managed identity, that trusts Deputy's issuer."),
})

/** https://learn.microsoft.com/en-us/entra/workload-id/workload-identity-federation */
export const azure = {
  credential: z
    .literal('azure')
    .describe(
      'An access token of Microsoft Entra ID for an application that trusts tokens signed by Deputy (workload identity federation). It has every permission that the application has at the service.',
    ),
  identity: identitySchema
    .optional()
    .describe('The identity for tenants without an entry in `identities`; absent: such tenants get no credentials.'),
  identities: z.record(idSchema, identitySchema).default({}).describe('Identities by tenant.'),
  scope: z
    .string()
    .regex(/^[\x21\x23-\x5B\x5D-\x7E]+\/\.default$/, 'write the service followed by /.default')
    .describe('The service, for example `https://management.azure.com/.default`.'),
  audience: z
    .string()
    .min(1)
    .default('api://AzureADTokenExchange')
    .describe('`aud` of the token that Deputy signs; other clouds of Microsoft expect other values.'),
  authority_url: urlSchema.default('https://login.microsoftonline.com').describe('Base URL of Entra ID.'),
  subject: subjectSchema,
}
