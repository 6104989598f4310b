/** Operations as tools. */
import { ownValue } from '#foundation/text'
import type { ApiDocument } from './document.ts'
import { outputsOf } from './output.ts'
import { bodyOf } from './body.ts'
import { inputOf } from './input.ts'
import { textAt } from './json.ts'
import { type DocumentOperation, operationsOf } from './operations.ts'
import { type ApiOptions, type OperationEntry, plainEntry } from './options.ts'
import { headerKey, parametersOf, templateOf } from './parameters.ts'
import { templatePath } from './path.ts'
import type { ApiProblem } from './problem.ts'
import { createReferences, type References } from './references.ts'
import { OperationError } from './refusal.ts'
import { fitting, type Losses, noLosses } from './schema-context.ts'
import { scopesOf } from './security.ts'
import { select } from './select.ts'
import { baseFor, baseOf, type Bases, documentBase } from './servers.ts'
import type { ApiTool, Effects, Pagination } from './tool.ts'
import { cleanText, cleanTitle, MAX_DESCRIPTION, MAX_TITLE, paragraphs } from './words.ts'

/**
 * Methods of RFC 9110 section 9.2 and of the QUERY method. Of POST and PATCH nothing is known, so they may do anything.
 */
const EFFECTS: Readonly<Record<string, Effects>> = {
  GET: { readOnly: true, destructive: false, idempotent: true },
  HEAD: { readOnly: true, destructive: false, idempotent: true },
  OPTIONS: { readOnly: true, destructive: false, idempotent: true },
  QUERY: { readOnly: true, destructive: false, idempotent: true },
  PUT: { readOnly: false, destructive: true, idempotent: true },
  DELETE: { readOnly: false, destructive: true, idempotent: true },
}
const UNKNOWN_EFFECTS: Effects = { readOnly: false, destructive: true, idempotent: false }

const effectsOf = (method: string, { effects }: OperationEntry): Effects => {
  const made = EFFECTS[method] ?? UNKNOWN_EFFECTS
  const readOnly = effects.read_only ?? made.readOnly
  return {
    readOnly,
    destructive: effects.destructive ?? (readOnly ? false : made.destructive),
    idempotent: effects.idempotent ?? (made.idempotent || effects.read_only === true),
  }
}

/** Answers as tokens of a document: TRACE repeats the credential, and CONNECT opens a tunnel. */
const REFUSED_METHODS: ReadonlySet<string> = new Set(['TRACE', 'CONNECT'])

interface Compilation {
  readonly document: ApiDocument
  readonly references: References
  readonly bases: Bases
  readonly options: Pick<ApiOptions, 'scopes' | 'timeout' | 'max_bytes'>
  readonly target: Target
  /** What the credential fills, by `placeKey`. */
  readonly filled: ReadonlySet<string>
}

/** What the downstream of an API says of its credential. */
export interface Target {
  /** Origins to which it may go. */
  readonly origins: readonly string[]
  /** Parameters that the credential itself fills, such as `header:x-api-key` (in lower case) and `query:key`. */
  readonly filled: readonly string[]
  /** A credential without scopes has none that a document could ask for. */
  readonly hasScopes: boolean
}

const ANY_TARGET: Target = { origins: [], filled: [], hasScopes: true }

/** An operation as a tool, and what its schemas lost. */
export interface Compiled {
  readonly tool: ApiTool
  readonly losses: Losses
}

const checkPagination = (pagination: Pagination | undefined, names: readonly string[]): void => {
  if (pagination === undefined || pagination.by === 'link' || names.includes(pagination.parameter)) return
  throw new OperationError(
    `Its pages are asked for by the parameter ${pagination.parameter}, and it has no such query parameter.`,
    `Its query parameters: ${names.join(', ') || 'none'}.`,
  )
}

const descriptionOf = ({ definition, method, path }: DocumentOperation, entry: OperationEntry): string =>
  entry.description ??
  (paragraphs([textAt(definition, 'summary'), textAt(definition, 'description')], MAX_DESCRIPTION) ||
    `${method} ${cleanText(path, MAX_TITLE)}`)

/** @throws OperationError where an operation cannot be a tool */
export const compileOperation = (
  operation: DocumentOperation,
  { document, references, bases, options, target, filled }: Compilation,
  entry: OperationEntry,
): Compiled => {
  const { definition, method } = operation
  if (REFUSED_METHODS.has(method)) throw new OperationError(`${method} is no method of a tool.`, 'Leave it out.')
  const base = baseFor(operation, bases)
  const losses = noLosses()
  const parameters = parametersOf(operation, references).filter(
    ({ in: place, name }) => !filled.has(placeKey(`${place}:${name}`)),
  )
  const body = bodyOf(operation, references)
  const input = fitting({ references, direction: 'in', losses }, (conversion) =>
    inputOf({ parameters, body }, entry, conversion),
  )
  if (input === undefined)
    throw new OperationError('It has more arguments than a client takes.', 'Leave it out, or hide parameters of it.')
  const query = parameters.filter((each) => each.in === 'query').map(({ name }) => name)
  checkPagination(entry.pagination, query)
  const { outputSchema, ...output } = outputsOf(operation, references, losses, entry.select)
  const title = entry.title ?? cleanTitle(textAt(definition, 'summary') ?? '')
  const tool: ApiTool = {
    name: entry.name ?? operation.name,
    ...(title === '' ? {} : { title }),
    description: descriptionOf(operation, entry),
    inputSchema: input.schema,
    ...(outputSchema === undefined ? {} : { outputSchema }),
    effects: effectsOf(method, entry),
    isDeprecated: definition.deprecated === true,
    scopes:
      entry.scopes ??
      (target.hasScopes ? scopesOf(operation, document, references) : []).map(
        (scope) => ownValue(options.scopes, scope) ?? scope,
      ),
    operation: {
      id: operation.id,
      method,
      origin: base.origin,
      path: templatePath(base.path, templateOf(operation.path)),
      parameters: input.parameters,
      ...(input.body === undefined ? {} : { body: input.body }),
      ...output,
      limits: { timeout: entry.timeout ?? options.timeout, maxBytes: entry.max_bytes ?? options.max_bytes },
      ...(entry.pagination === undefined ? {} : { pagination: entry.pagination }),
      ...(entry.select === undefined ? {} : { projection: entry.select }),
    },
  }
  return { tool, losses }
}

/** A parameter by its place and name, such as `header:x-api-key`: what is one header to the API has one key. */
const placeKey = (named: string): string => (named.startsWith('header:') ? headerKey(named) : named)

const compilationOf = (document: ApiDocument, options: ApiOptions, target: Target): Compilation => ({
  target,
  filled: new Set(target.filled.map(placeKey)),
  document,
  references: createReferences(document),
  options,
  bases: {
    base: baseOf(document, options),
    documented: documentBase(document, options),
    options,
    origins: target.origins,
  },
})

/** What a document and its file give. */
export interface ApiCompilation {
  readonly tools: readonly ApiTool[]
  readonly problems: readonly ApiProblem[]
  /** Operations of a tag or path that cannot be tools. */
  readonly left: readonly { readonly operation: string; readonly message: string }[]
}

const asProblem = (error: unknown, at: ApiProblem['at'], operation?: DocumentOperation): ApiProblem => {
  if (!(error instanceof OperationError)) throw error
  return operation === undefined
    ? { at, message: error.message, fix: error.fix }
    : {
        at,
        pointer: operation.pointer,
        message: `${operation.id} (${operation.pointer}) cannot be a tool: ${error.message}`,
        fix: error.fix,
      }
}

/**
 * The operations that a file names, as tools.
 * @param target the downstream
 */
export const compileApi = (options: ApiOptions, document: ApiDocument, target: Target = ANY_TARGET): ApiCompilation => {
  let compilation: Compilation
  try {
    compilation = compilationOf(document, options, target)
  } catch (error) {
    return { tools: [], problems: [asProblem(error, ['document'])], left: [] }
  }
  const selected = select(options.tools, operationsOf(document, compilation.references))
  const problems = [...selected.problems]
  const left: { operation: string; message: string }[] = []
  const tools: ApiTool[] = []
  const holders = new Map<string, string>()
  for (const { operation, entry, at, isNamed } of selected.operations) {
    try {
      const { tool } = compileOperation(operation, compilation, entry)
      const holder = holders.get(tool.name)
      if (holder !== undefined)
        throw new OperationError(`its name ${tool.name} is that of ${holder} too.`, 'Give one of them another name.')
      holders.set(tool.name, operation.id)
      tools.push(tool)
    } catch (error) {
      const problem = asProblem(error, at, operation)
      if (isNamed) problems.push(problem)
      else left.push({ operation: operation.id, message: problem.message })
    }
  }
  return { tools, problems, left }
}

/** An operation of a document, and what it would become. */
export interface Candidate {
  readonly operation: string
  readonly method: string
  readonly path: string
  readonly pointer: string
  readonly tags: readonly string[]
  /** Absent where it cannot be a tool. */
  readonly tool?: ApiTool
  readonly losses: Losses
  /** Why it cannot be a tool. */
  readonly refusal?: { readonly message: string; readonly fix: string }
}

/**
 * Every operation of a document, and what it would become.
 * @throws OperationError where the document has no base URL
 */
export const candidates = (document: ApiDocument, options: ApiOptions, target: Target = ANY_TARGET): Candidate[] => {
  const compilation = compilationOf(document, options, target)
  return operationsOf(document, compilation.references).map((operation) => {
    const { id, method, path, pointer, tags } = operation
    const common = { operation: id, method, path, pointer, tags }
    try {
      return { ...common, ...compileOperation(operation, compilation, plainEntry(id)) }
    } catch (error) {
      if (!(error instanceof OperationError)) throw error
      return { ...common, losses: noLosses(), refusal: { message: error.message, fix: error.fix } }
    }
  })
}
