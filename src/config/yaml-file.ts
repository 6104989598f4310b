import { isMap, isPair, isScalar, isSeq, LineCounter, parseAllDocuments, Document, visit, type Node } from 'yaml'
import type { z } from 'zod'
import type { Problem } from './problem.ts'
import { renameSettings, type OldName } from './renamed-settings.ts'
import { toProblems } from './schema-problems.ts'

/** A value out of a file, with the way to the line that each part of it stands on. */
export interface Located<Value> {
  readonly value: Value
  readonly file: string
  /** Old names that this version reads, and the next one will not. */
  readonly warnings?: readonly Problem[]
  /** The line of the part at this path, or of the nearest part around it. */
  lineOf(path: readonly PropertyKey[]): number
}

const nodeAt = (document: Document, path: readonly PropertyKey[]): Node | null => {
  let node: unknown = document.contents
  let nearest = document.contents as Node | null
  for (const step of path) {
    if (isMap(node)) {
      const pair = node.items.find((item) => isPair(item) && isScalar(item.key) && item.key.value === step)
      if (pair === undefined) return nearest
      nearest = pair.key as Node
      node = pair.value
    } else if (isSeq(node)) {
      node = node.items[Number(step)]
      nearest = (node as Node | undefined) ?? nearest
    } else return nearest
  }
  return nearest
}

/** The value at a path; undefined where the file has none there. */
const valueAt =
  (document: Document) =>
  (path: readonly PropertyKey[]): Node | undefined => {
    let node: unknown = document.contents
    for (const step of path) {
      const found: unknown = isMap(node)
        ? node.items.find((item) => isPair(item) && isScalar(item.key) && item.key.value === step)?.value
        : isSeq(node)
          ? node.items[Number(step)]
          : undefined
      node = found
    }
    return (node ?? undefined) as Node | undefined
  }

/** `${NAME}` and `${NAME:-text}` of shells and of other programs; `${aws:username}` of AWS policies is none. */
const PLACEHOLDER = /\$\{[A-Za-z_][A-Za-z0-9_]*(:?[-?+=][^}]*)?\}/

/** What YAML reads without an error, and differently than intended: unknown tags, and variables that are never filled in. */
const misreadIn = (document: Document, file: string, lines: LineCounter): Problem[] => {
  const problems: Problem[] = document.warnings.map((warning) => ({
    file,
    line: warning.linePos?.[0].line ?? 1,
    message: firstLine(warning.message),
    fix: 'Remove the tag: Deputy reads plain YAML.',
  }))
  visit(document, {
    Scalar(_, node) {
      const placeholder = typeof node.value === 'string' ? PLACEHOLDER.exec(node.value)?.[0] : undefined
      if (placeholder === undefined) return
      problems.push({
        file,
        line: lines.linePos(node.range?.[0] ?? 0).line,
        message: `${placeholder} stands for itself here: no variable is filled in.`,
        fix: 'Write the value; where a secret belongs, write a reference such as { env: NAME } or { file: PATH }.',
      })
    },
  })
  return problems
}

const parse = (text: string): { documents: Document[]; lines: LineCounter; oldNames: OldName[][] } => {
  const lines = new LineCounter()
  // Its warnings would be written to standard error, between the lines of the log; the schema refuses what they are
  // about.
  const found = parseAllDocuments(text, { lineCounter: lines, uniqueKeys: true, logLevel: 'error' })
  // A file that is empty, or all comments, is one document that says nothing.
  const documents: Document[] = found.length > 0 ? [...found] : [new Document({})]
  return { documents, lines, oldNames: documents.map(renameSettings) }
}

const lineIn =
  (document: Document, lines: LineCounter) =>
  (path: readonly PropertyKey[]): number => {
    const start = nodeAt(document, path)?.range?.[0]
    return start === undefined ? 1 : Math.max(1, lines.linePos(start).line)
  }

/**
 * Reads every YAML document of a file against a schema. Nothing is thrown: what is wrong comes back as problems,
 * each with its line, and what is right as located values. Lines are looked up in the text again when they are needed,
 * because the tree of a document is a hundred times as large as what it says, and there may be thousands of files.
 */
export const parseYamlFile = <Schema extends z.ZodType>(
  file: string,
  text: string,
  schema: Schema,
): { values: Located<z.output<Schema>>[]; problems: Problem[] } => {
  const values: Located<z.output<Schema>>[] = []
  const problems: Problem[] = []
  const { documents, lines, oldNames } = parse(text)
  documents.forEach((document, at) => {
    for (const error of document.errors)
      problems.push({
        file,
        line: error.linePos?.[0].line ?? 1,
        message: firstLine(error.message),
        fix: 'Correct the YAML.',
      })
    if (document.errors.length > 0) return
    let content: unknown
    try {
      content = document.toJS({ maxAliasCount: 100 })
    } catch (error) {
      // Aliases that unfold without end, or that point nowhere.
      problems.push({
        file,
        line: lineIn(document, lines)([]),
        message: firstLine((error as Error).message),
        fix: 'Write the values out instead of aliases.',
      })
      return
    }
    const misread = misreadIn(document, file, lines)
    problems.push(...misread)
    const parsed = schema.safeParse(content ?? {}, { reportInput: true })
    if (!parsed.success) {
      const source = { file, schema, lineOf: lineIn(document, lines), nodeAt: valueAt(document) }
      problems.push(...parsed.error.issues.flatMap((issue) => toProblems(source, issue)))
    }
    if (!parsed.success || misread.length > 0) return
    values.push({
      value: parsed.data,
      file,
      warnings: oldNames[at]!.map(({ from, to, offset }) => ({
        file,
        line: lines.linePos(offset).line,
        message: `${from} is called ${to} now.`,
        fix: `Write ${to.split('.').at(-1)}: the next version no longer reads the old name.`,
      })),
      lineOf(path) {
        const again = parse(text)
        return lineIn(again.documents[at]!, again.lines)(path)
      },
    })
  })
  return { values, problems }
}

const firstLine = (text: string): string => text.split('\n', 1)[0]!.replace(/ at line \d+, column \d+:?$/, '')
