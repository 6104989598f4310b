/** The two files of an API: `apis/<id>.yaml`, and the document that it pins. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { stringify } from 'yaml'
import { type Api, API_FOLDER, apiSchema, documentDigest, formatProblem, loadLocations, parseYamlFile } from '#config'
import { didYouMean } from '#foundation/text'
import type { ApiDocument, Candidate } from '#openapi'
import { CommandError, exit } from '../terminal.ts'

/** The accepted document as it is kept: one value a line, so that a version control system shows what a change is. */
export const documentText = ({ root }: ApiDocument): string => `${JSON.stringify(root, null, 1)}\n`

/** An API as its file says. */
export interface ApiFile {
  readonly api: Api
  /** Relative to the home. */
  readonly file: string
}

/** @throws CommandError where no file defines it, or its file has problems */
export const readApiFile = async (home: string, environment: string, id: string): Promise<ApiFile> => {
  const locations = await loadLocations(home, API_FOLDER, 'api', environment)
  const file = locations.get(id)
  if (file === undefined)
    throw new CommandError(
      exit.unknown,
      `There is no API '${id}'. ${didYouMean(id, locations.keys())}`.trimEnd(),
      'deputy api list',
    )
  const { values, problems } = parseYamlFile(file, await readFile(join(home, file), 'utf8'), apiSchema)
  const api = values.find(({ value }) => value.api === id)?.value
  if (api === undefined) throw new CommandError(exit.configuration, problems.map(formatProblem).join('\n'))
  return { api, file }
}

/** The document's file as it is now, whether or not it is the one that was accepted. */
export const readPinned = async (
  home: string,
  { document }: Api,
): Promise<{ readonly text: string; readonly isAccepted: boolean }> => {
  const bytes = await readFile(join(home, API_FOLDER, document.file)).catch((error: NodeJS.ErrnoException) => {
    throw new CommandError(exit.failed, `${API_FOLDER}/${document.file} cannot be read: ${error.message}.`)
  })
  return { text: bytes.toString('utf8'), isAccepted: documentDigest(bytes) === document.sha256 }
}

/** What a new file is written from. */
export interface NewApi {
  readonly id: string
  readonly downstream: string
  readonly source: string
  readonly title: string | undefined
  readonly baseUrl: string | undefined
  readonly tags: readonly string[]
  /** Scopes that operations need, and the downstream does not have. */
  readonly missingScopes: readonly string[]
  readonly candidates: readonly Candidate[]
}

const line = (name: string, value: unknown): string => stringify({ [name]: value }).trimEnd()

/** A text in a comment: one line, whatever a document says. */
const remark = (text: string): string => text.replace(/[^\x20-\x7e]+/g, ' ').slice(0, 100)

const exampleLines = ({ candidates, tags }: NewApi): string[] => {
  if (tags.length > 0) return ['tools:', ...tags.map((tag) => `  - ${line('tag', tag)}`)]
  const some = candidates.filter(({ tool }) => tool !== undefined)
  const tag = some.find((each) => each.tags.length > 0)?.tags[0]
  const [first] = some
  return [
    '# No operation is a tool before it is named here. Put a list in place of [], for example:',
    'tools: []',
    ...(first === undefined ? [] : [`#  - ${line('operation', remark(first.operation))}`]),
    ...(tag === undefined ? [] : [`#  - ${line('tag', remark(tag))}`, '#    methods: [GET]']),
    ...(first === undefined
      ? []
      : [`#  - ${line('path', `${remark(first.path.split(/[?#{]/, 1)[0]!).replace(/\/$/, '')}/*`)}`]),
  ]
}

/** `apis/<id>.yaml` with comments. */
export const newApiText = (api: NewApi, sha256: string): string => {
  const { id, downstream, source, title, baseUrl, missingScopes } = api
  return `${[
    '# docs/apis.md explains every setting. Candidates for `tools`: deputy api tools ' + id,
    line('api', id),
    ...(title === undefined ? [] : [line('name', title)]),
    '# The downstream whose credential the requests carry.',
    line('downstream', downstream),
    '# The accepted document. A file with another digest is refused until `deputy api accept`.',
    line('document', { file: `${id}.openapi.json`, sha256, source }),
    ...(baseUrl === undefined ? [] : [line('base_url', baseUrl)]),
    ...(missingScopes.length === 0
      ? []
      : [
          `# Scopes of the document that ${downstream} does not have. Add them to its file, or name the scope that stands for each:`,
          '# scopes:',
          ...missingScopes.slice(0, 50).map((scope) => `#   ${JSON.stringify(remark(scope))}: SCOPE`),
        ]),
    ...exampleLines(api),
  ].join('\n')}\n`
}
