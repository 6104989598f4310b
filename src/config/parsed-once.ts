import type { z } from 'zod'
import type { Problem } from './problem.ts'
import { parseYamlFile, type Located } from './yaml-file.ts'

/** As `parseYamlFile`, for one schema. */
export type ParseFile<Schema extends z.ZodType> = (
  file: string,
  text: string,
) => { readonly values: readonly Located<z.output<Schema>>[]; readonly problems: readonly Problem[] }

/**
 * Parses a file anew only where its text has changed. A command that adds a file reads the folder before and after it,
 * and most of both readings was the provider files that come with Deputy, which no command changes. It keeps the last
 * text of each path, so only a folder of a known size is for it.
 */
export const parsedOnce = <Schema extends z.ZodType>(schema: Schema): ParseFile<Schema> => {
  const last = new Map<string, { readonly text: string; readonly parsed: ReturnType<ParseFile<Schema>> }>()
  return (file, text) => {
    const known = last.get(file)
    if (known?.text === text) return known.parsed
    const parsed = parseYamlFile(file, text, schema)
    last.set(file, { text, parsed })
    return parsed
  }
}
