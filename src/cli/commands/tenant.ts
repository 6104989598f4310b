import type { Command } from 'commander'
import { z } from 'zod'
import type { FreezeOrder, RevokeOrder } from '#listeners/admin-api'
import type { CommandContext } from '../context.ts'
import { takesName } from '../name-argument.ts'
import { nodesSchema, receiptSchema, formatReceipt, formatNodes } from '../receipt.ts'
import { callDaemon } from '../socket-client.ts'
import { CommandError, exit, print, shownTime, table, withProgress } from '../terminal.ts'

const tenantAnswerSchema = z.looseObject({
  tenant: z.string(),
  frozen: z.boolean(),
  was_frozen: z.boolean().optional(),
  nodes: nodesSchema.optional(),
})
const frozenSchema = z.array(
  z.looseObject({ tenant: z.string(), at: z.number(), by: z.string(), reason: z.string().nullable() }),
)

const frozenText = ({ tenant, frozen, was_frozen: was }: z.output<typeof tenantAnswerSchema>): string => {
  if (frozen) return `${tenant} is frozen: nothing is issued for it until: deputy tenant thaw ${tenant}`
  return was === false ? `${tenant} was not frozen; no change.` : `${tenant} is thawed.`
}

/** `tenant freeze` and `tenant thaw`. */
const addTenantSwitch = (tenant: Command, verb: 'freeze' | 'thaw', { terminal, socket }: CommandContext): void => {
  const command = takesName(tenant.command(verb), 'tenant', 'id of the tenant')
    .description(
      verb === 'freeze'
        ? 'refuse every request for this tenant until it is thawed; its grants and secrets are kept'
        : 'end the freeze of a tenant',
    )
    .option('--json', 'print JSON')
    .addHelpText('after', `\nExample:\n  deputy tenant ${verb} acme`)
  if (verb === 'freeze') command.option('--reason <text>', 'reason, for the audit log')
  command.action(
    async (
      _id: string | undefined,
      { tenant: id, reason, ...options }: { tenant: string; reason?: string; json?: boolean },
    ) => {
      const answer = await callDaemon(
        await socket(),
        {
          path: `/tenants/${verb}`,
          json: { tenant: id, ...(reason === undefined ? {} : { reason }) } satisfies FreezeOrder,
        },
        tenantAnswerSchema,
      )
      print(terminal, options, answer, () =>
        [frozenText(answer), ...(answer.nodes === undefined ? [] : formatNodes(answer.nodes))].join('\n'),
      )
    },
  )
}

/** `tenant destroy`. */
const addTenantDestroy = (tenant: Command, { terminal, socket }: CommandContext): void => {
  takesName(tenant.command('destroy'), 'tenant', 'id of the tenant')
    .description(
      'revoke everything of a tenant and destroy its data key: its grants and secrets can no longer be read, not even from backups',
    )
    .option('--reason <text>', 'reason, for the audit log')
    .option('--yes', 'confirm')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy tenant destroy acme --yes')
    .action(
      async (
        _id: string | undefined,
        { tenant: id, reason, yes, ...options }: { tenant: string; reason?: string; yes?: boolean; json?: boolean },
      ) => {
        const receipt = await withProgress(
          terminal,
          yes === true ? 'Destroying, also at the providers' : 'Counting',
          callDaemon(
            await socket(),
            {
              path: '/revoke',
              json: {
                scope: { kind: 'tenant', tenant: id },
                dry_run: yes !== true,
                ...(reason === undefined ? {} : { reason }),
              } satisfies RevokeOrder,
            },
            receiptSchema,
          ),
        )
        print(terminal, options, receipt, () => formatReceipt(receipt))
        if (yes !== true)
          throw new CommandError(exit.usage, 'Nothing was destroyed.', `deputy tenant destroy ${id} --yes`)
      },
    )
}

/** `tenant frozen`. */
const addTenantFrozen = (tenant: Command, { terminal, socket }: CommandContext): void => {
  tenant
    .command('frozen')
    .description('list frozen tenants')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy tenant frozen')
    .action(async (options: { json?: boolean }) => {
      const frozen = await callDaemon(await socket(), { path: '/tenants/frozen' }, frozenSchema)
      print(terminal, options, frozen, () =>
        frozen.length === 0
          ? 'No tenant is frozen.'
          : table(
              ['tenant', 'since', 'by', 'reason'],
              frozen.map((each) => ({ ...each, since: shownTime(each.at), reason: each.reason ?? '' })),
            ),
      )
    })
}

/** `tenant freeze|thaw|destroy|frozen`: orders for a whole tenant, carried out by the running daemon. */
export const addTenantOrders = (tenant: Command, context: CommandContext): void => {
  addTenantSwitch(tenant, 'freeze', context)
  addTenantSwitch(tenant, 'thaw', context)
  addTenantDestroy(tenant, context)
  addTenantFrozen(tenant, context)
}
