import { isMap, isPair, isScalar, isSeq, LineCounter, parseAllDocuments, Document, type Node } from 'yaml'
import type { z } from 'zod'
import type { Problem } from './problem.ts'

/** A value out of a file, with the way to the line that each part of it stands on. */
export interface Located<Value> {
  readonly value: Value
  readonly file: string
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

const parse = (text: string): { documents: Document[]; lines: LineCounter } => {
  const lines = new LineCounter()
  const found = parseAllDocuments(text, { lineCounter: lines, uniqueKeys: true })
  // A file that is empty, or all comments, is one document that says nothing.
  return { documents: found.length > 0 ? [...found] : [new Document({})], lines }
}

const lineIn =
  (document: Document, lines: LineCounter) =>
  (path: readonly PropertyKey[]): number => {
    const start = nodeAt(document, path)?.range?.[0]
    return start === undefined ? 1 : Math.max(1, lines.linePos(start).line)
  }

/**
 * Reads every YAML document of a file against a schema. Nothing is thrown: what is wrong comes back as problems,
 * each with its line, and what is right as located values. Lines are looked up in the text again when somebody asks,
 * because the tree of a document is a hundred times as large as what it says, and there may be thousands of files.
 */
export const parseYamlFile = <Schema extends z.ZodType>(
  file: string,
  text: string,
  schema: Schema,
): { values: Located<z.output<Schema>>[]; problems: Problem[] } => {
  const values: Located<z.output<Schema>>[] = []
  const problems: Problem[] = []
  const { documents, lines } = parse(text)
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
    const parsed = schema.safeParse(content ?? {})
    if (!parsed.success) {
      problems.push(...parsed.error.issues.flatMap((issue) => toProblems(file, issue, lineIn(document, lines))))
      return
    }
    values.push({
      value: parsed.data,
      file,
      lineOf(path) {
        const again = parse(text)
        return lineIn(again.documents[at]!, again.lines)(path)
      },
    })
  })
  return { values, problems }
}

const firstLine = (text: string): string => text.split('\n', 1)[0]!.replace(/ at line \d+, column \d+:?$/, '')

const toProblems = (
  file: string,
  issue: z.core.$ZodIssue,
  lineOf: (path: readonly PropertyKey[]) => number,
): Problem[] => {
  const at = issue.path.map(String).join('.') || 'the file'
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => ({
      file,
      line: lineOf([...issue.path, key]),
      message: `${at === 'the file' ? '' : `${at}.`}${key} is no known setting.`,
      fix: 'Correct the name or remove it; docs/configuration.md lists every setting.',
    }))
  }
  if (issue.code === 'invalid_union') {
    // The alternative that came furthest says best what was meant.
    const nearest = [...issue.errors].sort((a, b) => depth(b) - depth(a) || a.length - b.length)[0] ?? []
    if (nearest.length > 0 && depth(nearest) > 0)
      return nearest.flatMap((inner) => toProblems(file, { ...inner, path: [...issue.path, ...inner.path] }, lineOf))
    return [
      {
        file,
        line: lineOf(issue.path),
        message: `${at} has none of the forms that are possible here.`,
        fix: 'See docs/configuration.md for the forms.',
      },
    ]
  }
  const missing = issue.code === 'invalid_type' && issue.input === undefined
  return [
    {
      file,
      line: lineOf(issue.path),
      message: missing ? `${at} is missing.` : `${at}: ${issue.message}.`,
      fix: missing
        ? `Add ${String(issue.path.at(-1))}; docs/configuration.md says what it is.`
        : 'docs/configuration.md shows the form.',
    },
  ]
}

const depth = (issues: readonly z.core.$ZodIssue[]): number =>
  Math.max(0, ...issues.map(({ path, code }) => path.length + (code === 'unrecognized_keys' ? -1 : 0)))
