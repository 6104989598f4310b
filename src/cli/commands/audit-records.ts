/** Commands that read records of the audit log. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Command } from 'commander'
import { z } from 'zod'
import { durationSchema } from '#config'
import { AUDIT_OUTCOMES, type RecordView, recordViewSchema } from '#foundation/audit'
import { didYouMean } from '#foundation/text'
import type { CommandContext } from '../context.ts'
import { countArgument } from '../count-argument.ts'
import { callDaemon, download } from '../socket-client.ts'
import { CommandError, exit, print, shownTime, table } from '../terminal.ts'

export const recordsSchema = z.array(recordViewSchema)
const rowsSchema = z.array(z.looseObject({}))

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

export const toQuery = (filter: Filter, more: Readonly<Record<string, string>>): string => {
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
export const addQuery = (audit: Command, context: CommandContext): void => {
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
export const addTail = (audit: Command, context: CommandContext): void => {
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
export const addExport = (audit: Command, context: CommandContext): void => {
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
