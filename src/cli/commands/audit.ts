import type { Command } from 'commander'
import { explain } from '#foundation/audit'
import { createContext, type CommandContext } from '../context.ts'
import { callDaemon } from '../socket-client.ts'
import { CommandError, exit, print, type Terminal } from '../terminal.ts'
import { addAcknowledge, addPrune, addSeal, addVerify } from './audit-proof.ts'
import { addExport, addQuery, addTail, recordsSchema, toQuery } from './audit-records.ts'

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
