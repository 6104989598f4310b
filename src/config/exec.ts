import { z } from 'zod'
import { idSchema, scopeSchema } from './values.ts'

const variableSchema = z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, 'write the name of an environment variable')

const given = {
  downstream: idSchema.describe('The downstream whose credential it is.'),
  scopes: z.array(scopeSchema).optional().describe('Scopes to request; absent: all that the server is registered for.'),
  field: z
    .string()
    .min(1)
    .optional()
    .describe('The field to pass on from a credential that is JSON, such as a database login.'),
  template: z
    .string()
    .min(1)
    .optional()
    .describe(
      'Text around the credential. {token} stands for the credential; {username} and other names stand for fields of a credential that is JSON. Values in a URL are percent-encoded.',
    ),
}
const oneForm = [
  ({ field, template }: { field?: string | undefined; template?: string | undefined }) =>
    field === undefined || template === undefined,
  'name `field` or `template`, not both',
] as const

const valueSchema = z.strictObject(given).refine(...oneForm)
const fileSchema = z
  .strictObject({
    ...given,
    path: z
      .string()
      .max(255)
      .regex(
        /^[A-Za-z0-9_-][A-Za-z0-9._-]*(\/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$/,
        'write a path without "..", relative to the private folder',
      )
      .describe('Its path in the private folder.'),
  })
  .refine(...oneForm)

/** `exec` in a server's file: the one place that says what a started server gets. */
export const execSchema = z
  .strictObject({
    on_behalf_of: z
      .enum(['session', 'server'])
      .default('session')
      .describe('session: the user who signed in with `deputy login` as this Unix user; server: the server itself.'),
    env: z.record(variableSchema, valueSchema).default({}).describe('Environment variables with credentials.'),
    files: z
      .record(variableSchema, fileSchema)
      .default({})
      .describe('Files with credentials, in a private folder in memory; the environment variable holds the path.'),
    proxy: z.boolean().default(false).describe('Requests of the server go through the injecting proxy.'),
    socket: z
      .boolean()
      .default(false)
      .describe('Sets DEPUTY_SOCKET to the socket of the local API, for a server that calls Deputy itself.'),
    renew: z
      .enum(['restart', 'signal', 'none'])
      .default('restart')
      .describe(
        'What happens when a credential has been replaced. restart: the server is restarted. signal: the files are replaced and the server receives `signal`. none: the server keeps the earlier credential.',
      ),
    signal: z
      .enum(['SIGHUP', 'SIGUSR1', 'SIGUSR2', 'SIGINT', 'SIGTERM'])
      .default('SIGHUP')
      .describe('The signal of `renew: signal`.'),
  })
  .refine(
    ({ renew, env }) => renew !== 'signal' || Object.keys(env).length === 0,
    'the environment of a process cannot be replaced: with `renew: signal` use `files`',
  )
  .refine(
    ({ env, files }) => Object.keys(env).every((name) => !Object.hasOwn(files, name)),
    'a name stands under `env` or under `files`, not both',
  )
export type ExecMapping = z.output<typeof execSchema>
export type ExecValue = ExecMapping['env'][string]
