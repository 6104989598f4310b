import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { z } from 'zod'
import { NO_TEXT, secretText } from '#foundation/crypto'
import type { SecretNameOrder, SecretOrder } from '#listeners/admin-api'
import type { CommandContext } from '../context.ts'
import { takesName } from '../name-argument.ts'
import { callDaemon } from '../socket-client.ts'
import { CommandError, exit, print, shownTime, table } from '../terminal.ts'
import { countOf } from '../words.ts'

interface Output {
  json?: boolean
}

const writtenSchema = z.looseObject({ tenant: z.string(), name: z.string(), version: z.number() })
const removedSchema = z.looseObject({ removed: z.number() })
const secretsSchema = z.array(
  z.looseObject({
    tenant: z.string(),
    name: z.string(),
    version: z.number(),
    stage: z.string().nullable(),
    createdAt: z.number(),
  }),
)

/** `secret set`. */
const addSecretSet = (secret: Command, { terminal, socket }: CommandContext): void => {
  takesName(secret.command('set'), 'name', 'name of the secret')
    .description(
      "store a new version of a tenant's secret; the value is read from standard input or a file, never from the command line",
    )
    .requiredOption('--tenant <id>', 'tenant of the secret')
    .option('--file <path>', 'file with the value; default: standard input')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy secret set github-key --tenant acme < key.txt')
    .action(async (_name: string | undefined, options: Output & { tenant: string; name: string; file?: string }) => {
      const bytes =
        options.file === undefined
          ? await terminal.input()
          : await readFile(resolve(terminal.workingFolder, options.file))
      const value = secretText(bytes)
      if (value === undefined) throw new CommandError(exit.usage, `The value was not stored: ${NO_TEXT}.`)
      if (value === '') throw new CommandError(exit.usage, 'There was no value on standard input.')
      const written = await callDaemon(
        await socket(),
        { path: '/secrets', json: { tenant: options.tenant, name: options.name, value } satisfies SecretOrder },
        writtenSchema,
      )
      print(
        terminal,
        options,
        written,
        () => `${written.name} of ${written.tenant} has version ${written.version} now.`,
      )
    })
}

/** `secret list`. */
const addSecretList = (secret: Command, { terminal, socket }: CommandContext): void => {
  secret
    .command('list')
    .description('list secrets, never their values')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy secret list')
    .action(async (options: Output) => {
      const secrets = await callDaemon(await socket(), { path: '/secrets' }, secretsSchema)
      print(terminal, options, secrets, () =>
        secrets.length === 0
          ? 'There is no secret yet.'
          : table(
              ['tenant', 'name', 'version', 'stage', 'created'],
              secrets.map((each) => ({ ...each, created: shownTime(each.createdAt) })),
            ),
      )
    })
}

/** `secret remove`. */
const addSecretRemove = (secret: Command, { terminal, socket }: CommandContext): void => {
  takesName(secret.command('remove'), 'name', 'name of the secret')
    .description('remove every version of a secret')
    .requiredOption('--tenant <id>', 'tenant of the secret')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy secret remove github-key --tenant acme')
    .action(async (_name: string | undefined, options: Output & { tenant: string; name: string }) => {
      const { removed } = await callDaemon(
        await socket(),
        { path: '/secrets/remove', json: { tenant: options.tenant, name: options.name } satisfies SecretNameOrder },
        removedSchema,
      )
      print(terminal, options, { removed }, () => `Removed ${countOf(removed, 'version')}.`)
    })
}

/** `secret set|list|remove`. */
export const addSecretCommands = (program: Command, context: CommandContext): void => {
  const secret = program.command('secret').description('secrets in the embedded backend')
  addSecretSet(secret, context)
  addSecretList(secret, context)
  addSecretRemove(secret, context)
}
