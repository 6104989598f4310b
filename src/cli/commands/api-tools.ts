import type { Command } from 'commander'
import { didYouMean } from '#foundation/text'
import {
  type ApiTool,
  candidates,
  compileApi,
  describeTool,
  DocumentError,
  OperationError,
  readAccepted,
} from '#openapi'
import { asCommandError } from '../registry/api-document.ts'
import { type ApiFile, readApiFile, readPinned } from '../registry/api-file.ts'
import { candidateRow, downstreamIn, targetOf, unknownTags } from '../api-views.ts'
import type { CommandContext } from '../context.ts'
import { readSettings } from '../home.ts'
import { CommandError, exit, print, table } from '../terminal.ts'

interface ToolsOptions {
  json?: boolean
  tag?: string
  chosen?: boolean
  refused?: boolean
  show?: string
}

const isWanted = (row: ReturnType<typeof candidateRow>, { tag, chosen, refused }: ToolsOptions): boolean =>
  (tag === undefined || row.tags.includes(tag)) &&
  (chosen !== true || row.is_tool) &&
  (refused !== true || row.effects === null)

/** One tool as a client sees it. */
const show = (all: readonly ApiTool[], name: string): object => {
  const tool = all.find((each) => each.name === name || each.operation.id === name)
  if (tool === undefined)
    throw new CommandError(
      exit.unknown,
      `No operation would become a tool ${name}. ${didYouMean(
        name,
        all.map((each) => each.name),
      )}`.trimEnd(),
      'deputy api tools ID lists them.',
    )
  const { operation, scopes } = tool
  return { ...describeTool(tool), request: `${operation.method} ${operation.origin}${operation.path}`, scopes }
}

const compileBoth = ({ api }: ApiFile, text: string, target: ReturnType<typeof targetOf>) => {
  try {
    const document = readAccepted(text, `apis/${api.document.file}`)
    return { all: candidates(document, api, target), tools: compileApi(api, document, target).tools }
  } catch (error) {
    if (error instanceof OperationError) throw new CommandError(exit.failed, error.message, error.fix)
    if (error instanceof DocumentError) throw asCommandError(error)
    throw error
  }
}

/** `api tools`. */
export const addApiToolsCommand = (api: Command, { terminal, home }: CommandContext): void => {
  api
    .command('tools')
    .argument('<id>')
    .description('list the operations of an API: what each would become, and which are tools')
    .option('--tag <tag>', 'only operations with this tag')
    .option('--chosen', 'only those that are tools')
    .option('--refused', 'only those that cannot be tools, and why')
    .option('--show <name>', 'one tool as clients see it, with its schemas')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  deputy api tools billing --tag invoices\n  deputy api tools billing --show list_invoices',
    )
    .action(async (id: string, options: ToolsOptions) => {
      const { environment } = await readSettings(home())
      const file = await readApiFile(home(), environment, id)
      const target = targetOf(await downstreamIn(home(), environment, file.api.downstream))
      const { text, isAccepted } = await readPinned(home(), file.api)
      const { all, tools } = compileBoth(file, text, target)
      if (!isAccepted) terminal.err(`The document differs from the accepted one; see: deputy api diff ${id}\n`)
      if (options.show !== undefined) {
        const known = [...tools, ...all.flatMap(({ tool }) => tool ?? [])]
        const value = show(known, options.show)
        return print(terminal, { json: true }, value, () => '')
      }
      if (options.tag !== undefined) unknownTags([options.tag], all)
      const chosen = new Map(tools.map(({ name, operation }) => [`${operation.method} ${operation.id}`, name]))
      const rows = all
        .map((each) => candidateRow(each, chosen.get(`${each.method} ${each.operation}`)))
        .filter((row) => isWanted(row, options))
      print(terminal, options, rows, () =>
        table(
          ['tool', 'is_tool', 'effects', 'route', 'tags', 'note'],
          rows.map((row) => ({ ...row, is_tool: row.is_tool ? 'yes' : '-', tags: row.tags.join(', ') || null })),
        ),
      )
    })
}
