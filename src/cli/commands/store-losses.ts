import type { Command } from 'commander'
import { z } from 'zod'
import { onOneLine } from '#foundation/text'
import type { LossesOrder } from '#listeners/admin-api'
import { callDaemon } from '../socket-client.ts'
import { print, shownTime, type Terminal } from '../terminal.ts'

/**
 * A program that can write the store can write anything into a loss: parts of another form are left out, and hide no other loss.
 */
const writtenSchema = z.looseObject({
  revocations: z
    .array(z.looseObject({ revocation: z.string(), scope: z.string() }))
    .default([])
    .catch([]),
  disabled: z.array(z.string()).default([]).catch([]),
  frozen: z.array(z.string()).default([]).catch([]),
  grants: z.array(z.string()).default([]).catch([]),
  records: z
    .array(
      z.looseObject({
        writtenAgain: z.number(),
        gone: z.looseObject({ from: z.number(), to: z.number() }).nullable(),
        forked: z.boolean(),
      }),
    )
    .default([])
    .catch([]),
})
const lossesSchema = z.array(
  z.looseObject({
    id: z.string(),
    node: z.string(),
    at: z.number(),
    detail: z.looseObject({
      problem: z.string().default('').catch('it has no readable problem'),
      written_again: writtenSchema.optional().catch(undefined),
    }),
  }),
)
type Loss = z.output<typeof lossesSchema>[number]

/** An id of Deputy needs no quotes; one in a row that was altered may. */
const shellWord = (id: string): string => (/^[\w-]+$/.test(id) ? id : `'${onOneLine(id).replaceAll("'", "'\\''")}'`)

const listed = (what: string, names: readonly string[]): string[] =>
  names.length === 0 ? [] : [`  written again, ${what}: ${names.join(', ')}`]

const linesOf = ({ id, node, at, detail: { problem, written_again: written } }: Loss): string[] => [
  `${shownTime(at)}, noticed by ${node} (${id}): ${problem}`,
  ...(written === undefined
    ? []
    : [
        ...listed(
          'revocations',
          written.revocations.map(({ scope }) => scope),
        ),
        ...listed('disabled users', written.disabled),
        ...listed('frozen tenants', written.frozen),
        ...listed('grants', written.grants),
        ...written.records.map(
          ({ writtenAgain, gone, forked }) =>
            `  audit records: ${writtenAgain} written again, ${gone === null ? 'none' : `${gone.from} to ${gone.to}`} gone${forked ? '; another process wrote under this name' : ''}`,
        ),
      ]),
]

/** `store losses|acknowledge`: confirmed writes that the store has lost. */
export const addLossCommands = (store: Command, terminal: Terminal, socket: () => Promise<string>): void => {
  store
    .command('losses')
    .description('list confirmed writes that the store has lost, and what the nodes have written again')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy store losses')
    .action(async (options: { json?: boolean }) => {
      const losses = await callDaemon(await socket(), { path: '/losses' }, lossesSchema)
      print(terminal, options, losses, () =>
        losses.length === 0
          ? 'No loss is open.'
          : [
              ...losses.flatMap(linesOf).map(onOneLine),
              'Repeat revocations that were confirmed shortly before and are not listed, then:',
              `  deputy store acknowledge ${losses.some(({ id }) => id.startsWith('-')) ? '-- ' : ''}${losses.map(({ id }) => shellWord(id)).join(' ')}`,
            ].join('\n'),
      )
    })

  store
    .command('acknowledge')
    .description('acknowledge losses; when none is open, deputy status reports the store as ok again')
    .argument('<ids...>', 'the losses, by the ids that deputy store losses shows')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy store acknowledge L3o4rgqEu6f9bQI-AzBl')
    .action(async (losses: string[], options: { json?: boolean }) => {
      const done = await callDaemon(
        await socket(),
        { path: '/losses/acknowledge', json: { losses } satisfies LossesOrder },
        z.looseObject({ acknowledged: z.number() }),
      )
      print(terminal, options, done, () =>
        [
          `Acknowledged: ${done.acknowledged}.`,
          ...(done.acknowledged < losses.length ? ['The others are not open: deputy store losses'] : []),
        ].join('\n'),
      )
    })
}
