import type { Command } from 'commander'
import { z } from 'zod'
import { findHome, localSocket } from '../home.ts'
import { callDaemon } from '../socket-client.ts'
import { CommandError, exit, type Terminal } from '../terminal.ts'

const answerSchema = z.looseObject({ access_token: z.string() })
/** https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-sourcing-external.html */
const keysSchema = z.strictObject({
  Version: z.literal(1),
  AccessKeyId: z.string(),
  SecretAccessKey: z.string(),
  SessionToken: z.string().optional(),
  Expiration: z.iso.datetime(),
})

const FOR_USER = {
  grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
  subject_token: 'current',
  subject_token_type: 'urn:deputy:params:oauth:token-type:login-session',
}
const FOR_SERVER = { grant_type: 'client_credentials' }

/** `aws-credentials`: called by `credential_process` of an AWS profile. */
export const addAwsCredentialsCommand = (program: Command, terminal: Terminal): void => {
  program
    .command('aws-credentials')
    .description('print temporary keys in the form that `credential_process` of an AWS profile reads')
    .requiredOption('--downstream <id>', 'a downstream of the kind aws_sts, or dynamic with the engine aws')
    .option('--server <id>', 'id of the registered server; default: the server that this process is identified as')
    .option('--scope <scopes>', 'scopes, separated by spaces; default: all that the server is registered for')
    .option('--own', 'on behalf of the server instead of the signed-in user')
    .addHelpText(
      'after',
      `
Example, in ~/.aws/config:
  [profile reports]
  credential_process = deputy aws-credentials --downstream reports --server notes

It calls the local socket on behalf of the user who signed in with deputy login; the server's file needs login_session: true.`,
    )
    .action(
      async ({
        downstream,
        server,
        scope,
        own,
      }: {
        downstream: string
        server?: string
        scope?: string
        own?: boolean
      }) => {
        const socket = await localSocket(findHome(program.opts<{ home?: string }>().home, terminal), terminal)
        const { access_token: text } = await callDaemon(
          socket,
          {
            path: '/oauth2/token',
            form: {
              ...(own === true ? FOR_SERVER : FOR_USER),
              audience: downstream,
              ...(server === undefined ? {} : { client_id: server }),
              ...(scope === undefined ? {} : { scope }),
            },
          },
          answerSchema,
        )
        let keys: unknown
        try {
          keys = JSON.parse(text)
        } catch {
          keys = undefined
        }
        const parsed = keysSchema.safeParse(keys)
        if (!parsed.success)
          throw new CommandError(
            exit.failed,
            `The credential of ${downstream} is not a set of AWS keys.`,
            'Name a downstream of the kind aws_sts, or dynamic with the engine aws.',
          )
        terminal.out(`${JSON.stringify(parsed.data)}\n`)
      },
    )
}
