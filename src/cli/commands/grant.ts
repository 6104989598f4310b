import { InvalidArgumentError, type Command } from 'commander'
import { z } from 'zod'
import type { CommandContext } from '../context.ts'
import { callDaemon } from '../socket-client.ts'
import { print, shownTime, table } from '../terminal.ts'

const grantsSchema = z.array(
  z.looseObject({
    id: z.string(),
    tenant: z.string(),
    user: z.string(),
    server: z.string(),
    downstream: z.string(),
    status: z.string(),
    scopes: z.array(z.string()),
    updatedAt: z.number(),
  }),
)
const queueSchema = z.array(
  z.looseObject({
    grant: z.string(),
    provider: z.string(),
    state: z.string(),
    attempts: z.number(),
    nextAt: z.number(),
    problem: z.string().nullable(),
  }),
)

const wholeNumber = (text: string): number => {
  const value = Number(text)
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError('write a whole number')
  return value
}

interface GrantFilter {
  tenant?: string
  user?: string
  server?: string
  downstream?: string
  provider?: string
}

/** `grant list`. */
const addGrantList = (grant: Command, { terminal, socket }: CommandContext): void => {
  grant
    .command('list')
    .description('list grants')
    .option('--tenant <id>', 'only grants of this tenant')
    .option('--user <name>', 'only grants of this user')
    .option('--server <id>', 'only grants for this server')
    .option('--downstream <id>', 'only grants for this downstream')
    .option('--provider <id>', 'only grants at this provider')
    .option('--limit <n>', 'number of grants', wholeNumber, 1000)
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy grant list --tenant acme')
    .action(async ({ json, ...filter }: { json?: boolean; limit: number } & GrantFilter) => {
      const query = new URLSearchParams(
        Object.entries(filter).map(([name, value]) => [name, String(value)] as [string, string]),
      )
      const grants = await callDaemon(await socket(), { path: `/grants?${query}` }, grantsSchema)
      print(terminal, { json: json === true }, grants, () =>
        grants.length === 0
          ? 'No grant matches.'
          : table(
              ['id', 'tenant', 'user', 'server', 'downstream', 'scopes', 'status', 'updated'],
              grants.map((each) => ({ ...each, updated: shownTime(each.updatedAt) })),
            ),
      )
    })
}

/** `grant pending`. */
const addGrantPending = (grant: Command, { terminal, socket }: CommandContext): void => {
  grant
    .command('pending')
    .description('list revocations that providers have not received yet')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy grant pending')
    .action(async (options: { json?: boolean }) => {
      const queue = await callDaemon(await socket(), { path: '/upstream-revocations' }, queueSchema)
      print(terminal, options, queue, () =>
        queue.length === 0
          ? 'Every provider has received its revocations.'
          : table(
              ['grant', 'provider', 'state', 'attempts', 'next', 'problem'],
              queue.map((each) => ({ ...each, next: shownTime(each.nextAt) })),
            ),
      )
    })
}

/** `grant list|pending`. */
export const addGrantCommands = (program: Command, context: CommandContext): void => {
  const grant = program.command('grant').description('grants that users have given')
  addGrantList(grant, context)
  addGrantPending(grant, context)
}
