import { setTimeout as sleep } from 'node:timers/promises'
import type { Command } from 'commander'
import { z } from 'zod'
import { durationSchema } from '#config'
import { AUDIT_OUTCOMES, explain, type RecordView, recordViewSchema } from '#foundation/audit'
import { didYouMean } from '#foundation/text'
import type { AcknowledgeOrder, PruneOrder } from '#listeners/admin-api'
import { createContext, type CommandContext } from '../context.ts'
import { countArgument } from '../count-argument.ts'
import { callDaemon, download } from '../socket-client.ts'
import { CommandError, exit, print, shownTime, table, withProgress, type Terminal } from '../terminal.ts'

const recordsSchema = z.array(recordViewSchema)
const rowsSchema = z.array(z.looseObject({}))
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

interface Filter {
  id?: string
  event?: string
  outcome?: string
  tenant?: string
  user?: string
  server?: string
  downstream?: string
  node?: string
  since?: string
  until?: string
}

/** The form of a date; `Date.parse` accepts many more. */
const DATE = /^\d{4}-\d{2}-\d{2}(T|$)/

/** ms since the epoch. @throws CommandError when it is neither a length of time nor a date */
const momentOf = (option: string, text: string): number => {
  const length = durationSchema.safeParse(text)
  const at = length.success ? Date.now() - length.data : DATE.test(text) ? Date.parse(text) : Number.NaN
  if (Number.isNaN(at))
    throw new CommandError(
      exit.usage,
      `--${option} ${text} is neither a length of time nor a date.`,
      `Write for example --${option} 2h or --${option} 2026-01-31T12:00:00Z`,
    )
  return at
}

const PAGE_ROWS = 1000
const POLL_INTERVAL_MS = 500

const shown = ({ at, record, ...row }: RecordView) => {
  const error = record.detail['error'] as { code?: string } | undefined
  return {
    ...row,
    time: shownTime(at),
    outcome: error?.code === undefined ? row.outcome : `${row.outcome} (${error.code})`,
  }
}
const COLUMNS = ['seq', 'time', 'event', 'outcome', 'tenant', 'user', 'server', 'downstream', 'id']

const toQuery = (filter: Filter, more: Readonly<Record<string, string>>): string => {
  const { since, until, ...equal } = filter
  const query = new URLSearchParams(more)
  for (const [name, value] of Object.entries(equal)) if (value !== undefined) query.set(name, value)
  const [from, to] = [
    since === undefined ? undefined : momentOf('since', since),
    until === undefined ? undefined : momentOf('until', until),
  ]
  if (from !== undefined && to !== undefined && from > to)
    throw new CommandError(exit.usage, `--since ${since} is later than --until ${until}.`, 'Swap the two.')
  if (from !== undefined) query.set('since', String(from))
  if (to !== undefined) query.set('until', String(to))
  return `/audit?${query}`
}

const withFilter = (command: Command): Command =>
  command
    .option('--event <name>', 'such as token.exchange or revocation')
    .option('--outcome <outcome>', AUDIT_OUTCOMES.join(', '))
    .option('--tenant <id>', 'only records of this tenant')
    .option('--user <name>', 'only records of this user')
    .option('--server <id>', 'only records of this server')
    .option('--downstream <id>', 'only records of this downstream')
    .option('--since <when>', 'only records since then: a length of time before now (2h), or a date')
    .option('--until <when>', 'only records until then')
    .option('--node <name>', "only records of this node's chain")

/** Warns of names in a filter that no file defines. They are not refused: a record may name a server whose file is gone. */
const tellUnknown = async (filter: Filter, { terminal, socket }: CommandContext): Promise<void> => {
  for (const kind of ['tenant', 'server', 'downstream'] as const) {
    const name = filter[kind]
    if (name === undefined) continue
    const rows = await callDaemon(await socket(), { path: `/${kind}s` }, rowsSchema)
    const known = rows.map((row) => String(row[kind]))
    if (!known.includes(name))
      terminal.err(`There is no ${kind} '${name}'. ${didYouMean(name, known)}`.trimEnd() + '\n')
  }
}

/** `audit query`. */
const addQuery = (audit: Command, context: CommandContext): void => {
  const { terminal, socket } = context
  withFilter(audit.command('query'))
    .description('find records')
    .option('--limit <n>', 'number of records; the last ones are shown', countArgument, 100)
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy audit query --tenant acme --outcome refused --since 1d')
    .action(async ({ json, limit, ...filter }: Filter & { json?: boolean; limit: number }) => {
      const records = await callDaemon(
        await socket(),
        { path: toQuery(filter, { limit: String(limit), last: 'true' }) },
        recordsSchema,
      )
      if (records.length === 0) await tellUnknown(filter, context)
      print(terminal, { json: json === true }, records, () =>
        records.length === 0
          ? 'No record matches.'
          : table(
              new Set(records.map(({ node }) => node)).size > 1 ? ['node', ...COLUMNS] : COLUMNS,
              records.map(shown),
            ),
      )
    })
}

/** `audit tail`. */
const addTail = (audit: Command, context: CommandContext): void => {
  const { terminal, socket } = context
  withFilter(audit.command('tail'))
    .description('show the last records, and with --follow new ones as they are written')
    .option('-f, --follow', 'wait for new records')
    .option('--limit <n>', 'number of records', countArgument, 20)
    .option('--json', 'print JSON lines')
    .addHelpText('after', '\nExample:\n  deputy audit tail --follow')
    .action(
      async ({ json, follow, limit, ...filter }: Filter & { json?: boolean; follow?: boolean; limit: number }) => {
        const path = await socket()
        const write = (record: RecordView): void => {
          const row = shown(record)
          terminal.out(
            json === true
              ? `${JSON.stringify(record)}\n`
              : `${row.time} ${row.event} ${row.outcome} ${[row.tenant, row.user, row.server, row.downstream].map((each) => each ?? '-').join(' ')} ${row.id}\n`,
          )
        }
        let records = await callDaemon(
          path,
          { path: toQuery(filter, { limit: String(limit), last: 'true', ...(follow === true ? { after: '0' } : {}) }) },
          recordsSchema,
        )
        if (records.length === 0) await tellUnknown(filter, context)
        records.forEach(write)
        let last = records.at(-1)?.seq ?? 0
        while (follow === true) {
          await sleep(POLL_INTERVAL_MS)
          records = await callDaemon(
            path,
            { path: toQuery(filter, { limit: String(PAGE_ROWS), after: String(last) }) },
            recordsSchema,
          )
          records.forEach(write)
          last = records.at(-1)?.seq ?? last
        }
      },
    )
}

/** `audit verify`. */
const addVerify = (audit: Command, { terminal, socket }: CommandContext): void => {
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
const addAcknowledge = (audit: Command, { terminal, socket }: CommandContext): void => {
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
const addSeal = (audit: Command, { terminal, socket }: CommandContext): void => {
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
const addPrune = (audit: Command, { terminal, socket }: CommandContext): void => {
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

/** The records that match, one as a line: without the others they prove nothing. */
const exportMatching = async (filter: Filter, context: CommandContext): Promise<void> => {
  const path = await context.socket()
  for (let after = 0; ;) {
    const records = await callDaemon(
      path,
      { path: toQuery(filter, { limit: String(PAGE_ROWS), after: String(after) }) },
      recordsSchema,
    )
    for (const record of records) context.terminal.out(`${JSON.stringify(record)}\n`)
    const last = records.at(-1)
    if (last === undefined) {
      if (after === 0) await tellUnknown(filter, context)
      return
    }
    after = last.seq
  }
}

/** `audit export`. */
const addExport = (audit: Command, context: CommandContext): void => {
  const { terminal, socket } = context
  const write = terminal.write ?? ((chunk) => Promise.resolve(terminal.out(Buffer.from(chunk).toString('utf8'))))
  withFilter(audit.command('export'))
    .description(
      'write everything by which the chains can be verified elsewhere as JSON lines to standard output: records, checkpoints, public keys; with a filter, only the matching records of one node, which cannot be verified elsewhere',
    )
    .addHelpText(
      'after',
      '\nExamples:\n  deputy audit export > audit.jsonl\n  deputy audit export --tenant acme > acme.jsonl\n\nThe format is in docs/audit-format.md, and a verifier in sdk/python.',
    )
    .action(async ({ node, ...filter }: Filter) => {
      if (Object.keys(filter).length > 0) {
        await exportMatching({ ...filter, ...(node === undefined ? {} : { node }) }, context)
        return
      }
      const query = node === undefined || node === '*' ? '' : `?${new URLSearchParams({ node })}`
      await download(await socket(), { path: `/audit/export${query}` }, write)
    })
}

/** `explain`. */
const addExplain = (program: Command, { terminal, socket }: CommandContext): void => {
  program
    .command('explain')
    .argument('<id>', 'correlation id: in every answer, error and log line')
    .description('show every record of one request, in order')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy explain 3q2-7wXn0aQb4cD5eF6g')
    .action(async (id: string, options: { json?: boolean }) => {
      const records = await callDaemon(await socket(), { path: toQuery({ id }, { limit: '100' }) }, recordsSchema)
      if (records.length === 0)
        throw new CommandError(
          exit.failed,
          `Nothing is recorded under ${id}.`,
          'Check that the id is complete, and search the log of the daemon for it: a request that is refused before the caller is identified (a foreign Host, a malformed body) is only there.',
        )
      print(terminal, options, { id, records, story: explain(records) }, () => explain(records).join('\n'))
    })
}

/** `audit query|tail|verify|acknowledge|seal|prune|export` and `explain`. */
export const addAuditCommands = (program: Command, terminal: Terminal): void => {
  const context = createContext(program, terminal)
  const audit = program.command('audit').description('query, follow, verify and export the audit log')
  for (const add of [addQuery, addTail, addVerify, addAcknowledge, addSeal, addPrune, addExport]) add(audit, context)
  addExplain(program, context)
}
