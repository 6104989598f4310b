import type { Command } from 'commander'
import { z } from 'zod'
import { ask } from '../socket-client.ts'
import { print, shownTime, type Terminal } from '../terminal.ts'

const writtenSchema = z.looseObject({
  revocations: z.array(z.looseObject({ revocation: z.string(), scope: z.string() })).default([]),
  disabled: z.array(z.string()).default([]),
  frozen: z.array(z.string()).default([]),
  grants: z.array(z.string()).default([]),
  records: z
    .array(
      z.looseObject({
        writtenAgain: z.number(),
        gone: z.looseObject({ from: z.number(), to: z.number() }).nullable(),
        forked: z.boolean(),
      }),
    )
    .default([]),
})
const lossesSchema = z.array(
  z.looseObject({
    id: z.string(),
    node: z.string(),
    at: z.number(),
    detail: z.looseObject({ problem: z.string().default(''), written_again: writtenSchema.optional() }),
  }),
)
type Loss = z.output<typeof lossesSchema>[number]

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

/** `store losses|acknowledge`: what the store has lost although it had confirmed it. */
export const addLossCommands = (store: Command, terminal: Terminal, socket: () => Promise<string>): void => {
  store
    .command('losses')
    .description('what the store has lost although it had confirmed it, and what the nodes have written again')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy store losses')
    .action(async (options: { json?: boolean }) => {
      const losses = await ask(await socket(), { path: '/losses' }, lossesSchema)
      print(terminal, options, losses, () =>
        losses.length === 0
          ? 'No loss is open.'
          : [
              ...losses.flatMap(linesOf),
              'Repeat revocations that were confirmed shortly before and are not listed, then: deputy store acknowledge',
            ].join('\n'),
      )
    })

  store
    .command('acknowledge')
    .description('say that you have seen what the store has lost: deputy status is in order again')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy store acknowledge')
    .action(async (options: { json?: boolean }) => {
      const done = await ask(
        await socket(),
        { path: '/losses/acknowledge', method: 'POST' },
        z.looseObject({ acknowledged: z.number() }),
      )
      print(terminal, options, done, () => `Acknowledged: ${done.acknowledged}.`)
    })
}
