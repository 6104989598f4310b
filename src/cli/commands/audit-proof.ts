/** Commands that prove the audit log, and that keep its files. */
import type { Command } from 'commander'
import { z } from 'zod'
import { durationSchema } from '#config'
import type { AcknowledgeOrder, PruneOrder } from '#listeners/admin-api'
import type { CommandContext } from '../context.ts'
import { callDaemon } from '../socket-client.ts'
import { CommandError, exit, print, shownTime, withProgress } from '../terminal.ts'

const verificationSchema = z.looseObject({
  ok: z.boolean(),
  records: z.number(),
  checkpoints: z.number(),
  unsigned: z.number().default(0),
  head: z.string(),
  losses: z
    .array(z.looseObject({ node: z.string(), from: z.number(), to: z.number(), at: z.number(), record: z.number() }))
    .default([]),
  removed: z
    .array(z.looseObject({ node: z.string(), from: z.number(), to: z.number(), at: z.number(), record: z.number() }))
    .default([]),
  problem: z.looseObject({ seq: z.number(), why: z.string() }).optional(),
})

/** `audit verify`. */
export const addVerify = (audit: Command, { terminal, socket }: CommandContext): void => {
  audit
    .command('verify')
    .description(
      'check the whole chain of every node against its checkpoints and against the heads that are kept beside the keys',
    )
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      `\nExample:\n  deputy audit verify\n\nThe running daemon does it. Without one, verify an export with the Python client (docs/audit-format.md).\nExit code 5 when the chain does not hold.`,
    )
    .action(async (options: { json?: boolean }) => {
      const result = await withProgress(
        terminal,
        'Verifying the chains',
        callDaemon(await socket(), { path: '/audit/verify' }, verificationSchema),
      )
      print(terminal, options, result, () =>
        result.ok
          ? [
              `The chain holds: ${result.records} records, ${result.checkpoints} signed checkpoint${result.checkpoints === 1 ? '' : 's'}, head ${result.head.slice(0, 16)}.`,
              ...(result.unsigned === 0
                ? []
                : [
                    `${result.unsigned} of them ${result.unsigned === 1 ? 'has' : 'have'} no signature yet: a checkpoint follows within 10 seconds.`,
                  ]),
              ...result.losses.map(
                ({ node, from, to, at, record }) =>
                  `The store lost records ${from} to ${to} of the node ${node}, noticed at ${shownTime(at)} (recorded by ${node} in record ${record}). This is not tampering; see deputy store losses.`,
              ),
              ...result.removed.map(
                ({ node, from, to, at, record }) =>
                  `Records ${from} to ${to} of the node ${node} were removed after their time at ${shownTime(at)} (recorded in record ${record}).`,
              ),
            ].join('\n')
          : [
              `The chain is broken at record ${result.problem?.seq}${result.problem?.why.startsWith('of the node ') === true ? '' : ':'} ${result.problem?.why}.`,
              'Next: Keep a copy of the store, and compare it with the records at the receivers of your sinks.',
              'If an older copy of the store was put back, put the newer one back, or run: deputy audit acknowledge --reason TEXT',
            ].join('\n'),
      )
      if (!result.ok) throw new CommandError(exit.unverified, '')
    })
}

/** `audit acknowledge`. */
export const addAcknowledge = (audit: Command, { terminal, socket }: CommandContext): void => {
  audit
    .command('acknowledge')
    .description(
      'acknowledge that signed records are missing in the store, once the cause is known; the audit log records the reason',
    )
    .requiredOption('--reason <text>', 'why they are missing, for the audit log')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExample:\n  deputy audit acknowledge --reason "the store was restored from the backup of 3 May"\n\nThe running daemon does it: it starts with an older copy of the log, and writes the record of the acknowledgement.',
    )
    .action(async ({ json, reason }: { json?: boolean; reason: string }) => {
      const done = await callDaemon(
        await socket(),
        { path: '/audit/acknowledge', json: { reason } satisfies AcknowledgeOrder },
        z.looseObject({ acknowledged: z.number() }),
      )
      print(terminal, { json: json === true }, done, () =>
        done.acknowledged === 0
          ? 'Nothing to acknowledge: no signed record is known to be missing. Run deputy audit verify to check the chains.'
          : `Acknowledged: ${done.acknowledged} missing signed record${done.acknowledged === 1 ? '' : 's'}. The audit log has a record of it. Next: deputy audit verify`,
      )
    })
}

/** `audit seal`. */
export const addSeal = (audit: Command, { terminal, socket }: CommandContext): void => {
  audit
    .command('seal')
    .description('seal the file that the audit log is written to, and begin the next one; embedded store only')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy audit seal')
    .action(async ({ json }: { json?: boolean }) => {
      const done = await callDaemon(
        await socket(),
        { path: '/audit/seal', json: {} },
        z.looseObject({ sealed: z.number().nullable() }),
      )
      print(terminal, { json: json === true }, done, () =>
        done.sealed === null ? 'The last file has no records yet.' : `Sealed: segment ${done.sealed}.`,
      )
    })
}

/** `audit prune`. */
export const addPrune = (audit: Command, { terminal, socket }: CommandContext): void => {
  audit
    .command('prune')
    .description(
      'remove the records of sealed files after their time, by audit.retention or --older-than; their footers stay, and the order is recorded',
    )
    .option('--older-than <time>', 'records that are older, such as 400d; at least 7d')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExample:\n  deputy audit prune --older-than 400d\n\nTo see removed records again, stop the daemon, put the files of a copy back into the folder, remove index.db there, and start it.',
    )
    .action(async ({ json, olderThan }: { json?: boolean; olderThan?: string }) => {
      const age = olderThan === undefined ? undefined : durationSchema.safeParse(olderThan)
      if (age !== undefined && !age.success)
        throw new CommandError(
          exit.usage,
          `--older-than ${olderThan} is no length of time.`,
          'Write for example --older-than 400d',
        )
      const done = await callDaemon(
        await socket(),
        { path: '/audit/prune', json: (age === undefined ? {} : { older_than: age.data }) satisfies PruneOrder },
        z.looseObject({ segments: z.number(), from: z.number().nullable(), to: z.number().nullable() }),
      )
      print(terminal, { json: json === true }, done, () =>
        done.segments === 0
          ? 'There is nothing to remove: no sealed file is old enough, or a sink does not have its records yet.'
          : `Removed: records ${done.from} to ${done.to}, ${done.segments} files. The audit log has a record of it.`,
      )
    })
}
