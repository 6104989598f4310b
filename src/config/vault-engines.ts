import { z } from 'zod'
import { awsRoleSchema, idSchema } from './values.ts'

/** Name of a role in an engine: a segment of a path, and none that leads elsewhere. */
export const engineRoleSchema = z
  .string()
  .regex(/^(?!\.{1,2}$)[A-Za-z0-9_.-]{1,128}$/, 'use letters, digits, "_", "." and "-", and not "." or ".." alone')

export const dynamic = {
  credential: z
    .literal('dynamic')
    .describe(
      'A credential that a backend makes for one user or one server and ends with its lease: a database login, or credentials of a cloud.',
    ),
  backend: idSchema.describe('The backend that makes it: one of kind `vault`.'),
  engine: z
    .enum(['database', 'aws', 'gcp', 'azure'])
    .default('database')
    .describe(
      'The secrets engine that makes it. aws: keys as JSON of the credential-process form. gcp: a token, or a key file. azure: JSON with client_id and client_secret.',
    ),
  role: engineRoleSchema.describe('Role of the engine there; for gcp the roleset, or the account.'),
  role_kind: z
    .enum(['dynamic', 'static'])
    .default('dynamic')
    .describe('static: one shared login, whose password the backend changes itself (database).'),
  sts: z
    .strictObject({
      role_arn: awsRoleSchema.optional().describe('The role to assume, where the role of the engine has several.'),
    })
    .optional()
    .describe(
      'Temporary keys (aws, roles of the type assumed_role and federation_token), for `lifetime` or the time that the role sets; absent: keys of an IAM user.',
    ),
  gcp: z
    .strictObject({
      account: z
        .enum(['roleset', 'static-account', 'impersonated-account'])
        .default('roleset')
        .describe('The kind of object that `role` names.'),
      issues: z
        .enum(['token', 'key'])
        .default('token')
        .describe(
          'token: an access token, which has no lease and is valid for one hour. key: a key file of the account, as JSON, under a lease.',
        ),
    })
    .optional()
    .describe('The request to the engine gcp; absent: a token of a roleset.'),
}
