import type { Command } from 'commander'
import type { RevokeOrder } from '#listeners/admin-api'
import { createContext, type CommandContext } from '../context.ts'
import { receiptSchema, formatReceipt } from '../receipt.ts'
import { callDaemon } from '../socket-client.ts'
import { CommandError, exit, print, withProgress, type Terminal } from '../terminal.ts'
import { addGrantCommands } from './grant.ts'
import { addUserCommands } from './user.ts'

interface ScopeOptions {
  tenant?: string
  user?: string
  server?: string
  downstream?: string
  provider?: string
  issuer?: string
  grant?: string
  client?: string
  session?: string
  token?: string
  everything?: boolean
}

/** What cannot be undone and needs --yes. */
const confirmation = (
  scope: RevokeOrder['scope'],
  tenant: string | undefined,
): { warning: string; command: string } | undefined => {
  if (scope.kind === 'tenant')
    return {
      warning: `This destroys the data key of ${tenant}: its grants and secrets cannot be read again, from backups either.`,
      command: `--tenant ${tenant}`,
    }
  if (scope.kind === 'everything')
    return {
      warning: 'This ends every grant, session and token of every tenant: every user has to sign in and connect again.',
      command: '--everything',
    }
  return undefined
}

/** The options as one scope: a user needs a tenant; a tenant without another option is the whole tenant. @throws CommandError */
const scopeOf = ({
  tenant,
  user,
  server,
  downstream,
  provider,
  issuer,
  grant,
  client,
  session,
  token,
  everything,
}: ScopeOptions): RevokeOrder['scope'] => {
  if (everything === true) {
    if (
      [tenant, user, server, downstream, provider, issuer, grant, client, session, token].some(
        (value) => value !== undefined,
      )
    )
      throw new CommandError(exit.usage, '--everything takes no other scope.')
    return { kind: 'everything' }
  }
  const named = Object.entries({ user, server, downstream, provider, issuer, grant, client, session, token }).filter(
    ([, value]) => value !== undefined,
  )
  if (named.length > 1)
    throw new CommandError(
      exit.usage,
      `Name one of ${named.map(([name]) => `--${name}`).join(' and ')}; for a smaller scope add --tenant.`,
    )
  const [only] = named
  if (only === undefined) {
    if (tenant === undefined) throw new CommandError(exit.usage, 'No scope was given.', 'deputy revoke --help')
    return { kind: 'tenant', tenant }
  }
  const [kind, value] = only
  if (kind === 'user' && tenant === undefined)
    throw new CommandError(exit.usage, 'A user belongs to a tenant: add --tenant.')
  return { kind, [kind]: value, ...(tenant === undefined ? {} : { tenant }) } as RevokeOrder['scope']
}

/** `revoke`. */
const addRevoke = (program: Command, { terminal, socket }: CommandContext): void => {
  program
    .command('revoke')
    .description('revoke grants, sessions and tokens; takes effect before the command returns')
    .option('--tenant <id>', 'the whole tenant, including its data key; with another option, only within this tenant')
    .option('--user <name>', 'a user of the tenant, by id or by the name in the claim that `claims.display` names')
    .option('--server <id>', 'every credential of a server')
    .option('--downstream <id>', 'every credential for a downstream')
    .option('--provider <id>', 'every grant at a provider')
    .option('--issuer <url>', 'all users who signed in at this issuer')
    .option('--grant <id>', 'one grant or lease')
    .option('--client <id>', 'an MCP client: its sign-ins, and every token exchanged from its tokens')
    .option('--session <id>', 'one sign-in of a user at an MCP client; `deputy client show` lists them')
    .option('--token <jti>', 'a token, and every token exchanged from it')
    .option('--everything', 'everything of every tenant')
    .option('--reason <text>', 'reason, for the audit log')
    .option('--dry-run', 'show what would be revoked, and revoke nothing')
    .option('--yes', 'confirm the revocation of a whole tenant or of everything')
    .option('--force', 'use --user as an id, and accept a user or issuer unknown to Deputy')
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
        const order: RevokeOrder = {
          scope,
          dry_run: options.dryRun === true,
          ...(options.force === true ? { force: true } : {}),
          ...(options.reason === undefined ? {} : { reason: options.reason }),
        }
        const receipt = await withProgress(
          terminal,
          'Revoking, also at the providers',
          callDaemon(await socket(), { path: '/revoke', json: order }, receiptSchema),
        )
        print(terminal, options, receipt, () => formatReceipt(receipt))
        if (receipt.token?.known === false && options.force !== true)
          throw new CommandError(
            exit.unknown,
            `No audit record names the token ${options.token}, so this may have revoked nothing.${receipt.token.hint === '' ? '' : ` ${receipt.token.hint}`}`,
            'Compare the id with `token_id` or `subject.token` in `deputy audit query`; the id of a token that an issuer signed is its issuer, "#" and its jti.',
          )
      },
    )
}

/** `revoke`, `grant`, `user`: end authority, and show what can be ended. */
export const addRevocationCommands = (program: Command, terminal: Terminal): void => {
  const context = createContext(program, terminal)
  addRevoke(program, context)
  addGrantCommands(program, context)
  addUserCommands(program, context)
}
