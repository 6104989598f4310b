/** The APIs of a folder with their documents, as tools. */
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { type ApiProblem, compileApi, DocumentError, MAX_DOCUMENT_BYTES, readAccepted, type Target } from '#openapi'
import type { Api, CompiledApi } from './api.ts'
import type { Downstream } from './downstream.ts'
import { readRegular } from './folder.ts'
import type { Problem } from './problem.ts'
import type { Located } from './yaml-file.ts'

/** The folder of APIs and of their documents. */
export const API_FOLDER = 'apis'

/** SHA-256 of a document's file, in hex. */
export const documentDigest = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

const accept = (id: string): string =>
  `Read what differs with \`deputy api diff ${id}\`, then run: deputy api accept ${id}`

/** The document that the file pins, if it is still that one. */
const readPinned = async (
  home: string,
  { value, file, lineOf }: Located<Api>,
): Promise<{ readonly text: string } | { readonly problem: Problem }> => {
  const { api, document } = value
  const problem = (at: readonly string[], message: string, fix: string): { problem: Problem } => ({
    problem: { file, line: lineOf(['document', ...at]), message, fix },
  })
  try {
    const bytes = await readRegular(join(home, API_FOLDER, document.file), MAX_DOCUMENT_BYTES)
    const found = documentDigest(bytes)
    return found === document.sha256
      ? { text: bytes.toString('utf8') }
      : problem(
          ['sha256'],
          `${API_FOLDER}/${document.file} is not the document that was accepted: its SHA-256 is ${found}.`,
          accept(api),
        )
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    return problem(
      ['file'],
      code === 'ENOENT'
        ? `There is no file ${API_FOLDER}/${document.file}.`
        : `${API_FOLDER}/${document.file} cannot be read: ${message}.`,
      `Run: deputy api accept ${api} --spec FILE|URL`,
    )
  }
}

const toProblem = ({ file, lineOf }: Located<Api>, { at, message, fix }: ApiProblem): Problem => ({
  file,
  line: lineOf(at),
  message,
  fix,
})

/** The parameters that the credential fills: no argument is offered for them. */
const filledBy = (downstream: Downstream | undefined): string[] =>
  (downstream?.inject?.as ?? []).flatMap((way) =>
    'header' in way ? [`header:${way.header.toLowerCase()}`] : 'query' in way ? [`query:${way.query}`] : [],
  )

/** What a downstream says of its credential to the converter. */
export const targetOf = (downstream: Downstream | undefined): Target => ({
  origins: downstream?.inject?.hosts ?? [],
  filled: filledBy(downstream),
  hasScopes: downstream === undefined || Object.keys(downstream.scopes).length > 0,
})

/** One API as tools. @param problems gets what is wrong with its file and its document */
const compile = (
  located: Located<Api>,
  text: string,
  downstream: Downstream | undefined,
  problems: Problem[],
): CompiledApi['tools'] => {
  const { value: api } = located
  try {
    const document = readAccepted(text, `${API_FOLDER}/${api.document.file}`)
    const compiled = compileApi(api, document, targetOf(downstream))
    problems.push(...compiled.problems.map((each) => toProblem(located, each)))
    return compiled.tools
  } catch (error) {
    if (!(error instanceof DocumentError)) throw error
    problems.push(toProblem(located, { at: ['document', 'file'], message: error.message, fix: error.fix }))
    return []
  }
}

/**
 * The tools of every API. A document is parsed, compiled and let go before the next one.
 * @param problems gets what is wrong with the files and the documents
 */
export const compileApis = async (
  home: string,
  {
    apis,
    downstreams,
  }: {
    readonly apis: ReadonlyMap<string, Located<Api>>
    readonly downstreams: ReadonlyMap<string, Located<Downstream>>
  },
  problems: Problem[],
): Promise<Map<string, CompiledApi>> => {
  const compiled = new Map<string, CompiledApi>()
  for (const [id, located] of apis) {
    const pinned = await readPinned(home, located)
    if ('problem' in pinned) {
      problems.push(pinned.problem)
      continue
    }
    const downstream = downstreams.get(located.value.downstream)?.value
    compiled.set(id, { api: located.value, tools: compile(located, pinned.text, downstream, problems) })
  }
  return compiled
}
