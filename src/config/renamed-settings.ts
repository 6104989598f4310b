import { isMap, isPair, isScalar, type Document } from 'yaml'

/** Settings that had another name. Files that use the old one are read for one version more, with a warning. */
const RENAMED: readonly { readonly path: readonly [string, ...string[]]; readonly to: string }[] = [
  { path: ['own'], to: 'service_downstreams' },
  { path: ['wider'], to: 'over_scoped' },
  { path: ['inject', 'strike'], to: 'redact_response' },
  { path: ['limits', 'unready'], to: 'shutdown_delay' },
]

/** A setting under its old name, and where it stands. */
export interface OldName {
  readonly from: string
  readonly to: string
  /** In the text of the file (characters). */
  readonly offset: number
}

const pairOf = (map: unknown, key: string) =>
  isMap(map) ? map.items.find((item) => isPair(item) && isScalar(item.key) && item.key.value === key) : undefined

/**
 * Gives settings under an old name their new one. A file that has both is left as it is: the schema refuses the old name then.
 * @returns what had an old name
 */
export const renameSettings = (document: Document): OldName[] =>
  RENAMED.flatMap(({ path, to }) => {
    const parents = path.slice(0, -1)
    const from = path.at(-1)!
    const map = parents.reduce<unknown>((within, key) => pairOf(within, key)?.value, document.contents)
    const key = pairOf(map, from)?.key
    if (!isScalar(key) || pairOf(map, to) !== undefined) return []
    key.value = to
    return [{ from: path.join('.'), to: [...parents, to].join('.'), offset: key.range?.[0] ?? 0 }]
  })
