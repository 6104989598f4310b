import type { Command } from 'commander'
import { z } from 'zod'
import type { UserOrder } from '#listeners/admin-api'
import type { CommandContext } from '../context.ts'
import { takesName } from '../name-argument.ts'
import { nodesSchema, formatName, formatNodes } from '../receipt.ts'
import { callDaemon } from '../socket-client.ts'
import { print, shownTime, table } from '../terminal.ts'

const userAnswerSchema = z.looseObject({
  tenant: z.string(),
  user: z.string(),
  disabled: z.boolean(),
  named: z.string().optional(),
  was_disabled: z.boolean().optional(),
  nodes: nodesSchema.optional(),
})
const disabledSchema = z.array(z.looseObject({ tenant: z.string(), user: z.string(), at: z.number(), by: z.string() }))

/** `user disable` and `user enable`. */
const addUserSwitch = (user: Command, verb: 'disable' | 'enable', { terminal, socket }: CommandContext): void => {
  takesName(user.command(verb), 'user', 'id or name of the user')
    .description(
      verb === 'disable' ? 'refuse every request for a user until the user is enabled' : 'enable a disabled user',
    )
    .requiredOption('--tenant <id>', 'tenant of the user')
    .option('--force', 'use the argument as an id, also for a user unknown to Deputy')
    .option('--json', 'print JSON')
    .addHelpText('after', `\nExample:\n  deputy user ${verb} alice --tenant acme`)
    .action(
      async (_user: string | undefined, options: { tenant: string; user: string; force?: boolean; json?: boolean }) => {
        const answer = await callDaemon(
          await socket(),
          {
            path: `/users/${verb}`,
            json: {
              tenant: options.tenant,
              user: options.user,
              ...(options.force === true ? { force: true } : {}),
            } satisfies UserOrder,
          },
          userAnswerSchema,
        )
        print(terminal, options, answer, () =>
          [
            ...formatName(answer.named, answer.user),
            answer.was_disabled === false
              ? `${answer.user} of ${answer.tenant} was not disabled; no change.`
              : `${answer.user} of ${answer.tenant} is ${answer.disabled ? 'disabled' : 'enabled'}.`,
            ...(answer.nodes === undefined ? [] : formatNodes(answer.nodes)),
          ].join('\n'),
        )
      },
    )
}

/** `user list`. */
const addUserList = (user: Command, { terminal, socket }: CommandContext): void => {
  user
    .command('list')
    .description('list disabled users')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy user list')
    .action(async (options: { json?: boolean }) => {
      const users = await callDaemon(await socket(), { path: '/users/disabled' }, disabledSchema)
      print(terminal, options, users, () =>
        users.length === 0
          ? 'No user is disabled.'
          : table(
              ['tenant', 'user', 'since', 'by'],
              users.map((each) => ({ ...each, since: shownTime(each.at) })),
            ),
      )
    })
}

/** `user disable|enable|list`. */
export const addUserCommands = (program: Command, context: CommandContext): void => {
  const user = program.command('user').description('users of a tenant')
  addUserSwitch(user, 'disable', context)
  addUserSwitch(user, 'enable', context)
  addUserList(user, context)
}
