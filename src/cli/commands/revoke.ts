import { InvalidArgumentError, type Command } from 'commander'
import { z } from 'zod'
import { adminSocket, findHome } from '../home.ts'
import { takesName } from '../name-argument.ts'
import { nodesSchema, receiptSchema, tell, tellName, tellNodes } from '../receipt.ts'
import { callDaemon } from '../socket-client.ts'
import { CommandError, exit, print, shownTime, table, withProgress, type Terminal } from '../terminal.ts'

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
const userAnswerSchema = z.looseObject({
  tenant: z.string(),
  user: z.string(),
  disabled: z.boolean(),
  named: z.string().optional(),
  was_disabled: z.boolean().optional(),
  nodes: nodesSchema.optional(),
})
const disabledSchema = z.array(z.looseObject({ tenant: z.string(), user: z.string(), at: z.number(), by: z.string() }))
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

interface ScopeOptions {
  tenant?: string
  user?: string
  server?: string
  downstream?: string
  provider?: string
  issuer?: string
  grant?: string
  token?: string
  everything?: boolean
}

/** What cannot be taken back and must be said twice. */
const confirmation = (scope: object, tenant: string | undefined): { warning: string; command: string } | undefined => {
  if (!('kind' in scope)) return undefined
  if (scope.kind === 'tenant')
    return {
      warning: `This destroys the data key of ${tenant}: its grants and secrets cannot be read again, from backups either.`,
      command: `--tenant ${tenant}`,
    }
  if (scope.kind === 'everything')
    return {
      warning: 'This ends every grant, session and token of every tenant: everybody has to sign in and connect again.',
      command: '--everything',
    }
  return undefined
}

/** The options as one scope: a user needs a tenant, a tenant alone is the whole tenant. @throws CommandError */
const scopeOf = ({
  tenant,
  user,
  server,
  downstream,
  provider,
  issuer,
  grant,
  token,
  everything,
}: ScopeOptions): object => {
  if (everything === true) {
    if ([tenant, user, server, downstream, provider, issuer, grant, token].some((value) => value !== undefined))
      throw new CommandError(exit.usage, '--everything stands alone.')
    return { kind: 'everything' }
  }
  const named = Object.entries({ user, server, downstream, provider, issuer, grant, token }).filter(
    ([, value]) => value !== undefined,
  )
  if (named.length > 1)
    throw new CommandError(
      exit.usage,
      `Name one of ${named.map(([name]) => `--${name}`).join(' and ')}; for a smaller scope add --tenant.`,
    )
  const [only] = named
  if (only === undefined) {
    if (tenant === undefined) throw new CommandError(exit.usage, 'Say what to revoke.', 'deputy revoke --help')
    return { kind: 'tenant', tenant }
  }
  const [kind, value] = only
  if (kind === 'user' && tenant === undefined)
    throw new CommandError(exit.usage, 'A user belongs to a tenant: add --tenant.')
  return { kind, [kind]: value, ...(tenant === undefined ? {} : { tenant }) }
}

const wholeNumber = (text: string): number => {
  const value = Number(text)
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError('write a whole number')
  return value
}

/** `revoke`, `grant`, `user`: what ends authority, and shows what there is to end. */
export const addRevocationCommands = (program: Command, terminal: Terminal): void => {
  const socket = (): Promise<string> => adminSocket(findHome(program.opts<{ home?: string }>().home, terminal))

  program
    .command('revoke')
    .description('revoke grants, sessions and tokens; takes effect before the command returns')
    .option('--tenant <id>', 'the whole tenant, its data key too; or, with another option, only within this tenant')
    .option('--user <name>', 'a user of the tenant, by id, or by the name that `claims.display` of its file gives')
    .option('--server <id>')
    .option('--downstream <id>')
    .option('--provider <id>')
    .option('--issuer <url>', 'all users who signed in at this issuer')
    .option('--grant <id>')
    .option('--token <jti>', 'a token and all that was exchanged from it')
    .option('--everything', 'all tenants')
    .option('--reason <text>', 'kept in the audit log')
    .option('--dry-run', 'only say what it would cover')
    .option('--yes', 'do not ask back for a whole tenant or everything')
    .option('--force', 'take --user for an id, and also a user or an issuer of which Deputy knows nothing')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  deputy revoke --tenant acme --user alice\n  deputy revoke --provider github --dry-run',
    )
    .action(
      async (
        options: ScopeOptions & { reason?: string; dryRun?: boolean; yes?: boolean; force?: boolean; json?: boolean },
      ) => {
        const scope = scopeOf(options)
        const unsaid = options.yes === true || options.dryRun === true ? undefined : confirmation(scope, options.tenant)
        if (unsaid !== undefined)
          throw new CommandError(
            exit.usage,
            unsaid.warning,
            `deputy revoke ${unsaid.command} --dry-run, then again with --yes`,
          )
        const order = {
          scope,
          dry_run: options.dryRun === true,
          ...(options.force === true ? { force: true } : {}),
          ...(options.reason === undefined ? {} : { reason: options.reason }),
        }
        const receipt = await withProgress(
          terminal,
          'Revoking; providers are being told',
          callDaemon(await socket(), { path: '/revoke', json: order }, receiptSchema),
        )
        print(terminal, options, receipt, () => tell(receipt))
        if (receipt.token?.known === false && options.force !== true)
          throw new CommandError(
            exit.unknown,
            `No audit record names the token ${options.token}, so this may have revoked nothing.${receipt.token.hint === '' ? '' : ` ${receipt.token.hint}`}`,
            'Compare the id with `token_id` or `subject.token` in `deputy audit query`; the id of a token that an issuer signed is its issuer, "#" and its jti.',
          )
      },
    )

  const grant = program.command('grant').description('what users gave')
  grant
    .command('list')
    .description('list grants')
    .option('--tenant <id>')
    .option('--user <name>')
    .option('--server <id>')
    .option('--downstream <id>')
    .option('--provider <id>')
    .option('--limit <n>', 'at most so many', wholeNumber, 1000)
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy grant list --tenant acme')
    .action(async ({ json, ...filter }: { json?: boolean; limit: number } & ScopeOptions) => {
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
  grant
    .command('pending')
    .description('revocations that providers have still to be told')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy grant pending')
    .action(async (options: { json?: boolean }) => {
      const queue = await callDaemon(await socket(), { path: '/upstream-revocations' }, queueSchema)
      print(terminal, options, queue, () =>
        queue.length === 0
          ? 'Every provider has been told.'
          : table(
              ['grant', 'provider', 'state', 'attempts', 'next', 'problem'],
              queue.map((each) => ({ ...each, next: shownTime(each.nextAt) })),
            ),
      )
    })

  const user = program.command('user').description('users of a tenant')
  for (const verb of ['disable', 'enable'] as const) {
    takesName(user.command(verb), 'user', 'id or name of the user')
      .description(verb === 'disable' ? 'give a user nothing until enabled again' : 'let a disabled user in again')
      .requiredOption('--tenant <id>')
      .option('--force', 'take the name for an id, and also a user of whom Deputy knows nothing')
      .option('--json', 'print JSON')
      .addHelpText('after', `\nExample:\n  deputy user ${verb} alice --tenant acme`)
      .action(
        async (
          _user: string | undefined,
          options: { tenant: string; user: string; force?: boolean; json?: boolean },
        ) => {
          const answer = await callDaemon(
            await socket(),
            {
              path: `/users/${verb}`,
              json: { tenant: options.tenant, user: options.user, ...(options.force === true ? { force: true } : {}) },
            },
            userAnswerSchema,
          )
          print(terminal, options, answer, () =>
            [
              ...tellName(answer.named, answer.user),
              answer.was_disabled === false
                ? `${answer.user} of ${answer.tenant} was not disabled; nothing has changed.`
                : `${answer.user} of ${answer.tenant} is ${answer.disabled ? 'disabled' : 'enabled'}.`,
              ...(answer.nodes === undefined ? [] : tellNodes(answer.nodes)),
            ].join('\n'),
          )
        },
      )
  }
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
