/** `api list|add|tools|diff|accept`: APIs whose operations are tools (docs/apis.md). */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Command } from 'commander'
import { API_FOLDER, documentDigest, loadLocations } from '#config'
import { createFile, makeFolders } from '#foundation/files'
import { baseUrlOf, type Candidate, candidates, OperationError, titleOf } from '#openapi'
import { asCommandError, deviationText, readSpec } from '../registry/api-document.ts'
import { documentText, newApiText } from '../registry/api-file.ts'
import { downstreamIn, targetOf, unknownTags } from '../api-views.ts'
import { type CommandContext, createContext } from '../context.ts'
import { readSettings } from '../home.ts'
import { egressOf } from '../remote/egress.ts'
import { changeRegistry } from '../registry/change-registry.ts'
import { assertId, assertUrl, writeNew } from '../registry/registry-file.ts'
import { CommandError, exit, print, shownText, table, type Terminal, withProgress } from '../terminal.ts'
import { addApiChangeCommands } from './api-changes.ts'
import { addApiToolsCommand } from './api-tools.ts'
import { readSnapshot } from './registry-views.ts'

interface AddOptions {
  spec: string
  downstream: string
  baseUrl?: string
  tags?: string
  name?: string
}

/** Both files are new, or the command changes nothing. @throws CommandError */
const assertNew = async (home: string, environment: string, id: string): Promise<void> => {
  assertId('REST API', id)
  const file = (await loadLocations(home, API_FOLDER, 'api', environment)).get(id)
  if (file !== undefined)
    throw new CommandError(
      exit.failed,
      `${file} defines an API ${id} already.`,
      `deputy api diff ${id} --spec FILE|URL`,
    )
  for (const each of [`${API_FOLDER}/${id}.yaml`, `${API_FOLDER}/${id}.openapi.json`])
    if (existsSync(join(home, each)))
      throw new CommandError(exit.failed, `${each} exists already.`, 'Choose another id, or remove the file.')
}

/** @throws CommandError where the document names no server */
const candidatesIn = (...args: Parameters<typeof candidates>): Candidate[] => {
  try {
    return candidates(...args)
  } catch (error) {
    if (error instanceof OperationError)
      throw new CommandError(
        exit.usage,
        error.message,
        'Add --base-url with the URL that the paths of the document follow.',
      )
    throw asCommandError(error)
  }
}

const addAction = async (id: string, options: AddOptions, { terminal, home }: CommandContext): Promise<void> => {
  const settings = await readSettings(home())
  await assertNew(home(), settings.environment, id)
  if (options.baseUrl !== undefined) assertUrl('an API', options.baseUrl)
  const downstream = await downstreamIn(home(), settings.environment, options.downstream)
  const egress = await egressOf(home(), settings.network)
  try {
    const { workingFolder } = terminal
    const read = await withProgress(
      terminal,
      'Reading the document',
      readSpec(options.spec, { workingFolder, home: home(), egress }),
    )
    const { document, source } = read
    const api = {
      api: id,
      base_url: options.baseUrl,
      variables: {},
      scopes: {},
      tools: [],
      timeout: 0,
      max_bytes: 0,
      document: { source },
    }
    const all = candidatesIn(document, api, targetOf(downstream))
    const tags = options.tags?.split(',').map((tag) => tag.trim()) ?? []
    unknownTags(tags, all)
    const needed = new Set(all.flatMap(({ tool }) => tool?.scopes ?? []))
    const text = documentText(document)
    const file = `${API_FOLDER}/${id}.openapi.json`
    await changeRegistry(home(), terminal, async () => {
      await makeFolders(join(home(), API_FOLDER))
      if (!(await createFile(join(home(), file), text))) throw new CommandError(exit.failed, `${file} exists already.`)
      const yaml = newApiText(
        {
          id,
          downstream: options.downstream,
          source,
          title: options.name ?? titleOf(document),
          baseUrl: options.baseUrl ?? baseUrlOf(document, api),
          tags,
          missingScopes: [...needed].filter((scope) => !Object.hasOwn(downstream.scopes, scope)).sort(),
          candidates: all,
        },
        documentDigest(Buffer.from(text)),
      )
      const written = await writeNew({ home: home(), folder: API_FOLDER, what: 'REST API', id, text: yaml })
      return { file: written, done: shownText(`${written} and ${file} are written (OpenAPI ${read.version}).`) }
    })
    const refused = all.filter(({ tool }) => tool === undefined).length
    const lines = [
      deviationText(read.deviations),
      `${all.length} operations; ${all.length - refused} can be tools${refused === 0 ? '' : `, ${refused} cannot (deputy api tools ${id} --refused)`}.`,
      `Next: deputy api tools ${id}, name those that become tools in ${API_FOLDER}/${id}.yaml, and add the API to a server:`,
      '  apis:',
      `    - api: ${id}`,
    ]
    terminal.out(`${shownText(lines.filter((each) => each !== '').join('\n'))}\n`)
  } finally {
    await egress.close()
  }
}

/** `api add`. */
const addApiAdd = (api: Command, context: CommandContext): void => {
  api
    .command('add')
    .argument('<id>')
    .description('read an OpenAPI document, and write the file of the API and the pinned document')
    .requiredOption(
      '--spec <file|url>',
      'OpenAPI 2.0, 3.0, 3.1 or 3.2, JSON or YAML; files that it refers to become part of it',
    )
    .requiredOption('--downstream <id>', 'the downstream whose credential the requests carry; it needs `inject`')
    .option('--base-url <url>', "URL that the paths follow; default: the document's first server")
    .option('--tags <tags>', 'tags whose operations become tools at once, with commas between; default: none')
    .option('--name <name>', 'name of the API; default: the title of the document')
    .addHelpText(
      'after',
      '\nExamples:\n  deputy api add billing --spec openapi.yaml --downstream billing\n  deputy api add billing --spec https://billing.example/openapi.json --downstream billing --tags invoices',
    )
    .action((id: string, options: AddOptions) => addAction(id, options, context))
}

/** `api list`. */
const addApiList = (api: Command, { terminal, home }: CommandContext): void => {
  api
    .command('list')
    .description('list the APIs of the configuration folder, with the servers that have their tools')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy api list')
    .action(async (options: { json?: boolean }) => {
      const { apis, servers } = await readSnapshot(home())
      const rows = [...apis.values()].map(({ api: each, tools }) => ({
        api: each.api,
        downstream: each.downstream,
        tools: tools.length,
        servers: [...servers.values()]
          .filter(({ apis: of }) => of.some((one) => one.api === each.api))
          .map(({ server }) => server),
        source: each.document.source ?? `${API_FOLDER}/${each.document.file}`,
      }))
      print(terminal, options, rows, () => table(['api', 'downstream', 'tools', 'servers', 'source'], rows))
    })
}

/** `api list|add|tools|diff|accept`. */
export const addApiCommands = (program: Command, terminal: Terminal): void => {
  const context = createContext(program, terminal)
  const api = program.command('api').description('REST APIs whose operations are tools of MCP servers (docs/apis.md)')
  addApiList(api, context)
  addApiAdd(api, context)
  addApiToolsCommand(api, context)
  addApiChangeCommands(api, context)
}
