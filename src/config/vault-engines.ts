import { z } from 'zod'
import { roleSchema } from './cloud-credentials.ts'
import type { Downstream } from './downstream.ts'
import type { Problem } from './problem.ts'
import { leasedBy } from './secret-backends.ts'
import { idSchema } from './values.ts'
import type { Located } from './yaml-file.ts'

/** Name of a role in an engine: a segment of a path, and none that leads elsewhere. */
export const engineRoleSchema = z.string().regex(/^(?!\.{1,2}$)[A-Za-z0-9_.-]{1,128}$/, 'use letters, digits, "_", "." and "-", and not "." or ".." alone')

export const dynamic = {
  credential: z.literal('dynamic').describe('What a backend makes for the user, or the server, alone, and ends with its lease: a login of a database, or credentials of a cloud.'),
  backend: idSchema.describe('The backend that makes it: one of kind `vault`.'),
  engine: z.enum(['database', 'aws', 'gcp', 'azure']).default('database').describe('The secrets engine there that makes it. aws: keys as JSON of the credential-process form. gcp: a token, or a key file. azure: JSON with client_id and client_secret.'),
  role: engineRoleSchema.describe('Role of the engine there; for gcp the roleset, or the account.'),
  role_kind: z.enum(['dynamic', 'static']).default('dynamic').describe('static: one login for all, whose password the backend changes by itself (database).'),
  sts: z.strictObject({
    role_arn: roleSchema.optional().describe('The role to assume, where the role of the engine has several.'),
  }).optional().describe('Temporary keys (aws, roles of the type assumed_role and federation_token), for `lifetime`, or as the role says; absent: keys of an IAM user.'),
  gcp: z.strictObject({
    account: z.enum(['roleset', 'static-account', 'impersonated-account']).default('roleset').describe('What `role` names.'),
    issues: z.enum(['token', 'key']).default('token').describe('token: an access token, which has no lease and lives its hour. key: a key file of the account, as JSON, under a lease.'),
  }).optional().describe('What the engine gcp is asked for; absent: a token of a roleset.'),
}

/** What is asked of which engine, and under which name that is kept as a lease; of GCP tokens and static roles there is none. */
export interface EngineQuestion { readonly backend: string; readonly role: string; readonly leased: boolean }

/** Undefined for kinds that no engine makes. */
export const engineQuestionOf = (downstream: Downstream): EngineQuestion | undefined => {
  if (downstream.credential === 'mtls_certificate') return { backend: leasedBy(downstream.backend, 'pki'), role: downstream.role, leased: true }
  if (downstream.credential !== 'dynamic') return undefined
  const { engine, role, sts, gcp } = downstream
  const backend = leasedBy(downstream.backend, engine)
  switch (engine) {
    case 'database': return { backend, role, leased: downstream.role_kind === 'dynamic' }
    // Another role there makes other keys: it is a part of what is asked.
    case 'aws': return { backend, role: sts === undefined ? `creds/${role}` : `sts/${role}${sts.role_arn === undefined ? '' : `?role_arn=${encodeURIComponent(sts.role_arn)}`}`, leased: true }
    case 'gcp': return { backend, role: `${gcp?.account ?? 'roleset'}/${role}/${gcp?.issues ?? 'token'}`, leased: gcp?.issues === 'key' }
    case 'azure': return { backend, role: `creds/${role}`, leased: true }
  }
}

/** Settings of one engine that stand beside another. */
export const engineProblems = ({ value, file, lineOf }: Located<Downstream>): Problem[] => {
  if (value.credential !== 'dynamic') return []
  const { engine, gcp } = value
  const of = { sts: 'aws', gcp: 'gcp', postgres: 'database', redis: 'database' } as const
  const problems: Problem[] = (['sts', 'gcp', 'postgres', 'redis'] as const).filter((name) => value[name] !== undefined && engine !== of[name])
    .map((name) => ({ file, line: lineOf([name]), message: `${name} is of the engine ${of[name]}, and this downstream is of ${engine}.`, fix: `Leave it out, or write engine: ${of[name]}.` }))
  if (value.role_kind === 'static' && engine !== 'database') problems.push({ file, line: lineOf(['role_kind']), message: `The engine ${engine} has no static roles here.`, fix: 'Leave role_kind out.' })
  if (gcp?.account === 'impersonated-account' && gcp.issues === 'key') problems.push({ file, line: lineOf(['gcp', 'issues']), message: 'Of an impersonated account Vault issues tokens alone.', fix: 'Write issues: token.' })
  return problems
}
