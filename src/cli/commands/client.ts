import type { Command } from 'commander'
import { z } from 'zod'
import type { ClientApprovalOrder, ClientRevocationOrder } from '#listeners/admin-api'
import { createContext, type CommandContext } from '../context.ts'
import { formatReceipt, receiptSchema } from '../receipt.ts'
import { callDaemon } from '../socket-client.ts'
import { print, shownTime, table, withProgress, type Terminal } from '../terminal.ts'

const clientSchema = z.looseObject({
  client: z.string(),
  known: z.string(),
  name: z.string(),
  redirect_hosts: z.array(z.string()).default([]),
  approved: z.boolean().default(false),
  first_seen: z.number().nullish(),
  last_used: z.number().nullish(),
})
const listSchema = z.array(clientSchema.extend({ sessions: z.number() }))
const sessionSchema = z.looseObject({
  session: z.string(),
  tenant: z.string(),
  user: z.string(),
  server: z.string(),
  since: z.number(),
  last_used: z.number(),
})
const consentSchema = z.looseObject({
  tenant: z.string(),
  user: z.string(),
  server: z.string(),
  scopes: z.array(z.string()),
  at: z.number(),
  counts: z.boolean(),
})
const shownSchema = clientSchema.extend({
  redirect_uris: z.array(z.string()).default([]),
  authentication: z.string().nullish(),
  proven_by: z.string().nullish(),
  agent: z.looseObject({ tenant: z.string(), servers: z.array(z.string()) }).optional(),
  changed_at: z.number().nullish(),
  expires_at: z.number().nullish(),
  gone: z.boolean().default(false),
  sessions: z.array(sessionSchema),
  consents: z.array(consentSchema),
})

const timeOr = (at: number | null | undefined): string => (at === null || at === undefined ? '-' : shownTime(at))

const KNOWN: Readonly<Record<string, string>> = {
  file: 'a file of the administrator',
  document: 'the document at its address',
  registered: 'its own registration, which proves nothing',
}

const textOf = (shown: z.output<typeof shownSchema>): string => {
  const lines = [
    `client: ${shown.client}`,
    `name: ${shown.name}`,
    `known by: ${KNOWN[shown.known] ?? shown.known}`,
    ...(shown.agent === undefined
      ? []
      : [
          `agent: it acts for itself in ${shown.agent.tenant} at ${shown.agent.servers.join(', ')}; users do not sign in at it`,
        ]),
    ...(shown.gone ? ['It is no longer known; only its sign-ins are left.'] : []),
    ...(shown.gone ? [] : [`approved: ${shown.approved ? 'yes' : `no; run: deputy client approve ${shown.client}`}`]),
    ...shown.redirect_uris.map((uri) => `redirect URI: ${uri}`),
    ...(shown.authentication == null ? [] : [`authentication: ${shown.authentication}`]),
    `first seen: ${timeOr(shown.first_seen)}`,
    `last sign-in: ${timeOr(shown.last_used)}`,
    ...(shown.changed_at == null ? [] : [`as it is since: ${shownTime(shown.changed_at)}`]),
    ...(shown.expires_at == null ? [] : [`forgotten at: ${shownTime(shown.expires_at)}`]),
  ]
  const sessions = table(
    ['session', 'tenant', 'user', 'server', 'since', 'last_used'],
    shown.sessions.map((each) => ({ ...each, since: shownTime(each.since), last_used: shownTime(each.last_used) })),
  )
  const consents = table(
    ['tenant', 'user', 'server', 'scopes', 'at', 'counts'],
    shown.consents.map((each) => ({ ...each, at: shownTime(each.at), counts: each.counts ? 'yes' : 'no' })),
  )
  return [
    lines.join('\n'),
    shown.sessions.length === 0 ? 'No user is signed in at it.' : sessions,
    ...(shown.consents.length === 0 ? [] : [`Remembered consents:\n${consents}`]),
  ].join('\n\n')
}

/** `client list`. */
const addClientList = (client: Command, { terminal, socket }: CommandContext): void => {
  client
    .command('list')
    .description('list the MCP clients that are known, and how')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy client list')
    .action(async (options: { json?: boolean }) => {
      const clients = await callDaemon(await socket(), { path: '/clients' }, listSchema)
      print(terminal, options, clients, () =>
        clients.length === 0
          ? 'No client is known yet.'
          : table(
              ['client', 'known', 'name', 'redirect_hosts', 'approved', 'first_seen', 'last_used', 'sessions'],
              clients.map((each) => ({
                ...each,
                approved: each.approved ? 'yes' : 'no',
                first_seen: timeOr(each.first_seen),
                last_used: timeOr(each.last_used),
              })),
            ),
      )
    })
}

/** `client show`. */
const addClientShow = (client: Command, { terminal, socket }: CommandContext): void => {
  client
    .command('show')
    .argument('<id>', 'client id')
    .description('show a client with its sign-ins and the consents that users have given it')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy client show https://claude.ai/oauth/client.json')
    .action(async (id: string, options: { json?: boolean }) => {
      const path = `/clients/show?${new URLSearchParams({ client: id })}`
      const shown = await callDaemon(await socket(), { path }, shownSchema)
      print(terminal, options, shown, () => textOf(shown))
    })
}

/** `client approve`. */
const addClientApprove = (client: Command, { terminal, socket }: CommandContext): void => {
  client
    .command('approve')
    .argument('<id>', 'client id, as the page shows it to the user')
    .description('let users sign in at a client that waits for approval')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy client approve dcr_Gm1kUVYwhj3kq5hdGZzUwY')
    .action(async (id: string, options: { json?: boolean }) => {
      const order: ClientApprovalOrder = { client: id }
      const schema = z.looseObject({ client: z.string(), name: z.string().optional(), note: z.string().nullable() })
      const approved = await callDaemon(await socket(), { path: '/clients/approve', json: order }, schema)
      print(
        terminal,
        options,
        approved,
        () => approved.note ?? `${approved.name ?? id} is approved: users can sign in at it.`,
      )
    })
}

/** `client revoke`. */
const addClientRevoke = (client: Command, { terminal, socket }: CommandContext): void => {
  client
    .command('revoke')
    .argument('<id>', 'client id')
    .description('end every sign-in at a client and the consents for it, and remove its registration')
    .option('--tenant <id>', 'only for users of this tenant; the registration stays')
    .option('--reason <text>', 'kept in the audit log')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy client revoke dcr_Gm1kUVYwhj3kq5hdGZzUwY --reason "unknown program"')
    .action(async (id: string, options: { json?: boolean; tenant?: string; reason?: string }) => {
      const { tenant, reason } = options
      const order: ClientRevocationOrder = {
        client: id,
        ...(tenant === undefined ? {} : { tenant }),
        ...(reason === undefined ? {} : { reason }),
      }
      const schema = receiptSchema.extend({ note: z.string() })
      const receipt = await withProgress(
        terminal,
        'Revoking; providers are being told',
        callDaemon(await socket(), { path: '/clients/revoke', json: order }, schema),
      )
      print(terminal, options, receipt, () => `${formatReceipt(receipt)}\n${receipt.note}`)
    })
}

/** `client list|show|approve|revoke`. */
export const addClientCommands = (program: Command, terminal: Terminal): void => {
  const context = createContext(program, terminal)
  const client = program.command('client').description('MCP clients at which users sign in through Deputy')
  addClientList(client, context)
  addClientShow(client, context)
  addClientApprove(client, context)
  addClientRevoke(client, context)
}
