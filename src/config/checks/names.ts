import { didYouMean } from '#foundation/text'
import type { Problem } from '../problem.ts'
import type { Located } from '../yaml-file.ts'

/** Names in a sentence: sorted, or `none yet`. */
export const list = (names: Iterable<string>): string => [...names].sort().join(', ') || 'none yet'

/** How to correct a name that is not defined: the names that resemble it, else all of them. */
export const correction = (name: string, what: string, names: Iterable<string>): string => {
  const all = [...names]
  return didYouMean(name, all) || `${what}: ${list(all)}.`
}

/** Makes problems of one file: each names the line of the part at its path. */
export const problemsOf =
  ({ file, lineOf }: Pick<Located<unknown>, 'file' | 'lineOf'>) =>
  (path: readonly PropertyKey[], message: string, fix: string): Problem => ({ file, line: lineOf(path), message, fix })

/** The tenants that a file lists and that have no file of their own. @param path of the list in the file */
export const unknownTenants = (
  located: Pick<Located<unknown>, 'file' | 'lineOf'>,
  listed: '*' | readonly string[],
  tenants: ReadonlyMap<string, unknown>,
  path: readonly PropertyKey[] = ['tenants'],
): Problem[] => {
  if (listed === '*') return []
  const problem = problemsOf(located)
  return listed.flatMap((tenant, at) =>
    tenants.has(tenant)
      ? []
      : problem([...path, at], `There is no tenant ${tenant}.`, correction(tenant, 'Known tenants', tenants.keys())),
  )
}
