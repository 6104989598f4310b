/** Which operations of a document the file of an API names. */
import { didYouMean } from '#foundation/text'
import type { DocumentOperation } from './operations.ts'
import { type GroupEntry, type OperationEntry, plainEntry, type ToolEntry } from './options.ts'
import { templateOf } from './parameters.ts'
import type { ApiProblem } from './problem.ts'

/** An operation, and what the file says of it. */
export interface Selected {
  readonly operation: DocumentOperation
  readonly entry: OperationEntry
  readonly at: readonly (string | number)[]
  /** It is named itself, not by its tag or path. */
  readonly isNamed: boolean
}

const isOf = (entry: GroupEntry, { tags, path, method }: DocumentOperation): boolean => {
  if (entry.methods !== undefined && !entry.methods.includes(method)) return false
  if ('tag' in entry) return tags.includes(entry.tag)
  if (entry.path === path || entry.path === templateOf(path)) return true
  return entry.path.endsWith('/*') && templateOf(path).startsWith(entry.path.slice(0, -1))
}

const groupProblem = (entry: GroupEntry, at: number, operations: readonly DocumentOperation[]): ApiProblem => {
  const [word, name] = 'tag' in entry ? ['tag', entry.tag] : ['path', entry.path]
  const known = operations.flatMap((each) => (word === 'tag' ? each.tags : [each.path]))
  return {
    at: ['tools', at, word],
    message: `No operation of the document has the ${word} ${name}${entry.methods === undefined ? '' : ' and one of these methods'}.`,
    fix: didYouMean(name, known) || `Run \`deputy api tools\` for the ${word}s that it has.`,
  }
}

/** The operations with an id, or with a method and path. */
const named = (name: string, operations: readonly DocumentOperation[]): DocumentOperation[] => {
  const byId = operations.filter(({ id }) => id === name)
  return byId.length > 0 ? byId : operations.filter(({ route }) => route === name)
}

/** An operation that is named itself comes before its tag and its path, and no operation comes twice. */
export const select = (
  entries: readonly ToolEntry[],
  operations: readonly DocumentOperation[],
): { readonly operations: readonly Selected[]; readonly problems: readonly ApiProblem[] } => {
  const found = new Map<DocumentOperation, Selected>()
  const problems: ApiProblem[] = []
  entries.forEach((entry, index) => {
    if (!('operation' in entry)) return
    const at = ['tools', index, 'operation']
    const [operation, twin] = named(entry.operation, operations)
    if (operation === undefined)
      problems.push({
        at,
        message: `The document has no operation ${entry.operation}.`,
        fix:
          didYouMean(
            entry.operation,
            operations.flatMap(({ id, route }) => [id, route]),
          ) || 'Run `deputy api tools` for the operations that it has.',
      })
    else if (twin !== undefined)
      problems.push({
        at,
        message: `The document has several operations ${entry.operation}.`,
        fix: `Write method and path, such as ${operation.route}.`,
      })
    else if (found.has(operation))
      problems.push({ at, message: `${entry.operation} is named twice.`, fix: 'Remove one of the two.' })
    else found.set(operation, { operation, entry, at, isNamed: true })
  })
  entries.forEach((entry, index) => {
    if ('operation' in entry) return
    const members = operations.filter((operation) => isOf(entry, operation))
    if (members.length === 0) problems.push(groupProblem(entry, index, operations))
    for (const operation of members)
      if (!found.has(operation))
        found.set(operation, { operation, entry: plainEntry(operation.route), at: ['tools', index], isNamed: false })
  })
  return { operations: [...found.values()], problems }
}
