/** `api diff` and `api accept`: what another document changes, and making it the one in force. */
import { join } from 'node:path'
import { readFile } from 'node:fs/promises'
import type { Command } from 'commander'
import { API_FOLDER, documentDigest } from '#config'
import { replaceFile } from '#foundation/files'
import { type ApiDocument, compileApi, diffTools, readAccepted, readDocument, type ToolDifference } from '#openapi'
import { asCommandError, deviationText, readSpec } from '../registry/api-document.ts'
import { type ApiFile, documentText, readApiFile, readPinned } from '../registry/api-file.ts'
import { downstreamIn, targetOf } from '../api-views.ts'
import type { CommandContext } from '../context.ts'
import { readSettings } from '../home.ts'
import { egressOf } from '../remote/egress.ts'
import { changeRegistry } from '../registry/change-registry.ts'
import { editDocument } from '../registry/registry-file.ts'
import { CommandError, exit, print, shownText, table, withProgress } from '../terminal.ts'

/** The document that is to be in force, and where it comes from. */
interface NextDocument {
  readonly document: ApiDocument
  readonly source: string | undefined
  readonly deviations: readonly string[]
}

/** The next document: of `--spec`, else the file beside the API's where it was changed, else of the source again. */
const nextDocument = async (
  { api }: ApiFile,
  spec: string | undefined,
  context: CommandContext,
): Promise<NextDocument> => {
  const { terminal, home } = context
  const pinned = await readPinned(home(), api).catch((error: unknown) => {
    if (spec === undefined) throw error
    return { text: '', isAccepted: true }
  })
  if (spec === undefined && !pinned.isAccepted)
    try {
      const document = await readDocument(pinned.text, `${API_FOLDER}/${api.document.file}`)
      return { document, source: undefined, deviations: [] }
    } catch (error) {
      throw asCommandError(error)
    }
  const source = spec ?? api.document.source
  if (source === undefined)
    throw new CommandError(exit.usage, `The file of ${api.api} names no source.`, 'Add --spec FILE|URL.')
  const settings = await readSettings(home())
  const egress = await egressOf(home(), settings.network)
  try {
    // A path in the file of the API begins at the configuration folder.
    const workingFolder = spec === undefined ? home() : terminal.workingFolder
    const read = readSpec(source, { workingFolder, home: home(), egress })
    return { ...(await withProgress(terminal, 'Reading the document', read)) }
  } finally {
    await egress.close()
  }
}

/** The tools of an API by a document. What the file names and the document does not have is gone. */
const toolsOf = ({ api }: ApiFile, document: ApiDocument, target: ReturnType<typeof targetOf>) =>
  compileApi(api, document, target)

/** The document in force; undefined where the file was replaced by hand. */
const acceptedDocument = async (home: string, { api }: ApiFile): Promise<ApiDocument | undefined> => {
  const pinned = await readPinned(home, api).catch(() => undefined)
  return pinned?.isAccepted === true ? readAccepted(pinned.text, `${API_FOLDER}/${api.document.file}`) : undefined
}

const differenceText = (differences: readonly ToolDifference[]): string =>
  differences.length === 0
    ? 'No tool changes.'
    : table(
        ['tool', 'what', 'breaks', 'changes'],
        differences.map(({ tool, what, breaks, changes }) => ({
          tool,
          what,
          breaks: breaks ? 'yes' : '-',
          changes: changes.map(({ message, breaks: each }) => (each ? `${message} (!)` : message)).join('; ') || null,
        })),
      )

interface Comparison {
  readonly next: NextDocument
  /** Undefined where the accepted document is no longer in the folder. */
  readonly differences: ToolDifference[] | undefined
  /** What the file says that the next document does not have. */
  readonly problems: readonly string[]
}

const compare = async (file: ApiFile, spec: string | undefined, context: CommandContext): Promise<Comparison> => {
  const home = context.home()
  const { environment } = await readSettings(home)
  const target = targetOf(await downstreamIn(home, environment, file.api.downstream))
  const before = await acceptedDocument(home, file)
  const next = await nextDocument(file, spec, context)
  const after = toolsOf(file, next.document, target)
  return {
    next,
    differences: before === undefined ? undefined : diffTools(toolsOf(file, before, target).tools, after.tools),
    problems: after.problems.map(({ message, fix }) => `${message} ${fix}`),
  }
}

const LOST =
  'The accepted document is no longer in the folder, so the tools cannot be compared; take it from version control.'

const linesOf = ({ next, differences, problems }: Comparison): string =>
  [
    deviationText(next.deviations),
    differences === undefined ? LOST : differenceText(differences),
    ...(problems.length === 0 ? [] : [`The file of the API has to change:`, ...problems.map((each) => `  ${each}`)]),
  ]
    .filter((each) => each !== '')
    .join('\n')

/** `api diff`. */
const addDiff = (api: Command, context: CommandContext): void => {
  const { terminal, home } = context
  api
    .command('diff')
    .argument('<id>')
    .description('compare the tools of the accepted document with those of another one; (!) breaks a caller')
    .option('--spec <file|url>', 'the other document; default: the source of the accepted one, read again')
    .option('--json', 'print JSON')
    .option('--strict', 'exit code 1 when a change breaks a caller, for example in CI')
    .addHelpText('after', '\nExample:\n  deputy api diff billing --spec https://billing.example/openapi.json --strict')
    .action(async (id: string, options: { spec?: string; json?: boolean; strict?: boolean }) => {
      const { environment } = await readSettings(home())
      const compared = await compare(await readApiFile(home(), environment, id), options.spec, context)
      const { differences, problems } = compared
      print(terminal, options, { tools: differences ?? null, problems }, () => linesOf(compared))
      const breaks = differences === undefined || differences.some((each) => each.breaks) || problems.length > 0
      if (options.strict === true && breaks) throw new CommandError(exit.failed, '')
    })
}

/** `api accept`. */
const addAccept = (api: Command, context: CommandContext): void => {
  const { terminal, home } = context
  api
    .command('accept')
    .argument('<id>')
    .description('make another document the accepted one: shows what changes, and writes it with its digest')
    .option(
      '--spec <file|url>',
      'the document; default: the file in the folder if it was changed, else the source, read again',
    )
    .addHelpText('after', '\nExample:\n  deputy api accept billing --spec https://billing.example/openapi.json')
    .action(async (id: string, options: { spec?: string }) => {
      const { environment } = await readSettings(home())
      const file = await readApiFile(home(), environment, id)
      const compared = await compare(file, options.spec, context)
      terminal.out(`${shownText(linesOf(compared))}\n`)
      const text = documentText(compared.next.document)
      const sha256 = documentDigest(Buffer.from(text))
      const path = join(home(), API_FOLDER, file.api.document.file)
      const current = await readFile(path, 'utf8').catch(() => '')
      await changeRegistry(home(), terminal, async () => {
        if (current !== text) await replaceFile(path, text)
        await editDocument({ home: home(), file: file.file, key: 'api', id }, (document) => {
          document.setIn(['document', 'sha256'], sha256)
          if (compared.next.source !== undefined) document.setIn(['document', 'source'], compared.next.source)
        })
        return { file: file.file, done: `The document of ${id} is accepted: SHA-256 ${sha256}.` }
      })
    })
}

/** `api diff|accept`. */
export const addApiChangeCommands = (api: Command, context: CommandContext): void => {
  addDiff(api, context)
  addAccept(api, context)
}
