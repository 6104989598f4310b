import { z } from 'zod'
import { idSchema, scopeSchema, secretReferenceSchema, urlSchema } from './values.ts'

const repositorySchema = z.string().regex(/^[A-Za-z0-9._-]{1,100}$/, 'write the name of the repository without its owner')
const installationSchema = z.string().regex(/^\d{1,20}$/, 'write the number of the installation, in quotes')

/** https://docs.github.com/en/rest/apps/apps#create-an-installation-access-token-for-an-app */
export const githubApp = {
  credential: z.literal('github_app').describe('An installation token of a GitHub App, for no more permissions and repositories than were asked. A scope is `permission:level`, such as `contents:read`, or `repo:NAME`.'),
  api_url: urlSchema.default('https://api.github.com').describe('The API; of GitHub Enterprise Server `https://HOST/api/v3`.'),
  app: z.string().regex(/^[A-Za-z0-9._-]{1,64}$/).describe('Client id of the app, or its app id.'),
  key: secretReferenceSchema.describe('Private key of the app, PEM.'),
  installation: installationSchema.optional().describe('The installation of every tenant that has none of its own; absent: a tenant without one gets nothing.'),
  installations: z.record(idSchema, installationSchema).default({}).describe('Installations of single tenants.'),
  repositories: z.record(idSchema, z.array(repositorySchema).min(1).max(500)).default({}).describe('The repositories of single tenants; a tenant that is not named here has all those of its installation.'),
  permissions: z.record(scopeSchema, z.record(z.string().regex(/^[a-z_]{1,64}$/), z.enum(['read', 'write', 'admin']))).default({}).describe('Permissions of scopes that have other names than `permission:level`.'),
}
