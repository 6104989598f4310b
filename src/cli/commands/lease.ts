import type { Command } from 'commander'
import { z } from 'zod'
import type { RevokeOrder } from '#listeners/admin-api'
import { createContext, type CommandContext } from '../context.ts'
import { receiptSchema, formatReceipt } from '../receipt.ts'
import { callDaemon } from '../socket-client.ts'
import { print, shownTime, table, withProgress, type Terminal } from '../terminal.ts'
import { takesName } from '../name-argument.ts'

const leasesSchema = z.array(
  z.looseObject({
    id: z.string(),
    tenant: z.string(),
    user: z.string().nullable(),
    server: z.string(),
    downstream: z.string(),
    backend: z.string(),
    role: z.string(),
    state: z.string(),
    expiresAt: z.number(),
    problem: z.string().nullable(),
  }),
)

/** `lease list`. */
const addLeaseList = (lease: Command, { terminal, socket }: CommandContext): void => {
  lease
    .command('list')
    .description('list leases')
    .option('--tenant <id>', 'only leases of this tenant')
    .option('--user <name>', 'only leases of this user')
    .option('--server <id>', 'only leases of this server')
    .option('--downstream <id>', 'only leases for this downstream')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy lease list --tenant acme')
    .action(
      async ({
        json,
        ...filter
      }: {
        json?: boolean
        tenant?: string
        user?: string
        server?: string
        downstream?: string
      }) => {
        const leases = await callDaemon(
          await socket(),
          { path: `/leases?${new URLSearchParams(filter)}` },
          leasesSchema,
        )
        print(terminal, { json: json === true }, leases, () =>
          leases.length === 0
            ? 'There is no such lease.'
            : table(
                ['id', 'tenant', 'user', 'server', 'downstream', 'backend', 'role', 'state', 'expires', 'problem'],
                leases.map((each) => ({
                  ...each,
                  user: each.user ?? '-',
                  expires: shownTime(each.expiresAt),
                  problem: each.problem ?? '',
                })),
              ),
        )
      },
    )
}

/** `lease revoke`. */
const addLeaseRevoke = (lease: Command, { terminal, socket }: CommandContext): void => {
  takesName(lease.command('revoke'), 'id', 'id of the lease')
    .description('end one lease, at its backend as well; to end several, use deputy revoke')
    .option('--reason <text>', 'reason, for the audit log')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy lease revoke bG9sMTIzNDU2Nzg5')
    .action(async (_id: string | undefined, { id, json, reason }: { id: string; json?: boolean; reason?: string }) => {
      const receipt = await withProgress(
        terminal,
        'Ending the lease',
        callDaemon(
          await socket(),
          {
            path: '/revoke',
            json: {
              scope: { kind: 'grant', grant: id },
              ...(reason === undefined ? {} : { reason }),
            } satisfies RevokeOrder,
          },
          receiptSchema,
        ),
      )
      print(terminal, { json: json === true }, receipt, () => formatReceipt(receipt))
    })
}

/** `lease list|revoke`: credentials that backends have made. */
export const addLeaseCommands = (program: Command, terminal: Terminal): void => {
  const context = createContext(program, terminal)
  const lease = program.command('lease').description('dynamic credentials made by backends')
  addLeaseList(lease, context)
  addLeaseRevoke(lease, context)
}
