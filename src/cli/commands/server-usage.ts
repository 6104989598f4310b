import type { Command } from 'commander'
import { z } from 'zod'
import type { CommandContext } from '../context.ts'
import { callDaemon } from '../socket-client.ts'
import { print, shownTime, table, withProgress } from '../terminal.ts'
import { countOf } from '../words.ts'
import type { Output } from './registry-views.ts'

const usageSchema = z.array(
  z.looseObject({
    server: z.string(),
    tool: z.string().nullable(),
    owner: z.string().nullable(),
    state: z.enum(['used', 'unused', 'unregistered', 'deprecated']),
    calls: z.number(),
    lastAt: z.number().nullable(),
    users: z.array(z.looseObject({ tenant: z.string().nullable(), user: z.string().nullable(), calls: z.number() })),
  }),
)

/** The table, and below it the users of tools that are deprecated and still called. */
const formatUsage = (usage: z.output<typeof usageSchema>, days: string): string => {
  if (usage.length === 0) return 'No server is registered, and none has called.'
  const nameOf = ({ server, tool }: { server: string; tool: string | null }): string =>
    `${server}${tool === null ? '' : ` ${tool}`}`
  const deprecated = usage.filter(({ state }) => state === 'deprecated')
  const unused = usage.filter(({ state }) => state === 'unused').length
  return [
    table(
      ['server', 'tool', 'owner', 'state', 'calls', 'last', 'users'],
      usage.map((each) => ({
        ...each,
        tool: each.tool ?? '(none named)',
        last: each.lastAt === null ? '-' : shownTime(each.lastAt),
        users: each.users.length,
      })),
    ),
    ...(unused === 0 ? [] : [`Not called in ${countOf(Number(days), 'day')}: ${countOf(unused, 'tool')}.`]),
    ...deprecated.map(
      (each) =>
        `${nameOf(each)} is deprecated and still called: ${each.users
          .slice(0, 10)
          .map(({ tenant, user, calls }) => `${user ?? 'the server itself'} of ${tenant} (${calls})`)
          .join(', ')}${each.users.length > 10 ? ` and ${each.users.length - 10} more` : ''}.`,
    ),
  ].join('\n')
}

/** `server usage`. */
export const addServerUsage = (server: Command, { terminal, socket }: CommandContext): void => {
  server
    .command('usage')
    .description('calls by tool: used, unused, and deprecated ones with the users who still call them')
    .option('--days <n>', 'number of days to look back', '90')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy server usage --days 30')
    .action(async ({ days, ...options }: Output & { days: string }) => {
      const usage = await withProgress(
        terminal,
        'Reading the audit log',
        callDaemon(await socket(), { path: `/usage?${new URLSearchParams({ days })}` }, usageSchema),
      )
      print(terminal, options, usage, () => formatUsage(usage, days))
    })
}
