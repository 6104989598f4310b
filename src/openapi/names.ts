import { createHash } from 'node:crypto'

/** What clients take as the name of a tool or of an argument; a dot is left out, because several refuse it. */
export const MAX_NAME = 64
const HASH_LENGTH = 8

/** What a cut or ambiguous name ends with: the same wherever the operation stands in the document. */
const suffixOf = (key: string): string => `_${createHash('sha256').update(key).digest('hex').slice(0, HASH_LENGTH)}`

const withSuffix = (name: string, key: string): string => {
  const suffix = suffixOf(key)
  return `${name.slice(0, MAX_NAME - suffix.length)}${suffix}`
}

const cleanName = (text: string): string => (/^[A-Za-z0-9-]+(_[A-Za-z0-9-]+)*$/.test(text) ? text : replaced(text))

const replaced = (text: string): string =>
  text
    .replace(/[^A-Za-z0-9_-]+/g, '_')
    .replace(/_{2,}/g, '_')
    .replace(/^_+|_+$/g, '')

/** Something that needs a name of its own. */
export interface Unnamed {
  /** The name that it has in the document. */
  readonly wanted: string
  /** What tells it from all others, in the document and in later ones. */
  readonly key: string
}

/**
 * A name for each: 1 to 64 of A-Z, a-z, 0-9, `_` and `-`. A name depends on nothing but what is named and on others
 * that want the same one, never on an order: one that is cut, or that several want, ends with a hash of its key. The
 * one that needs no change keeps it.
 */
export const nameAll = (all: readonly Unnamed[]): string[] => {
  const plain = all.map(({ wanted, key }) => {
    const clean = cleanName(wanted)
    if (clean === '') return withSuffix('operation', key)
    return clean.length > MAX_NAME ? withSuffix(clean, key) : clean
  })
  const holders = new Map<string, number[]>()
  plain.forEach((name, at) => holders.set(name, [...(holders.get(name) ?? []), at]))
  return plain.map((name, at) => {
    const twins = holders.get(name)!
    if (twins.length === 1) return name
    const exact = twins.filter((twin) => all[twin]!.wanted === name)
    return exact.length === 1 && exact[0] === at ? name : withSuffix(name, all[at]!.key)
  })
}

/** Where an argument comes from, in the order in which one of them keeps a name that several want. */
const PLACES = ['path', 'query', 'querystring', 'header', 'cookie', 'body'] as const

/** A parameter or a property of the body that becomes an argument. */
export interface Argument {
  readonly in: (typeof PLACES)[number]
  readonly name: string
  /** From the file of the API. */
  readonly renamed?: string | undefined
}

/** `created<` and `created>` of filters stay apart. */
const argumentName = (name: string): string =>
  cleanName(name.replace(/\[\]$/, '').replace(/<$/, '_before').replace(/>$/, '_after')).slice(0, MAX_NAME) || 'value'

/**
 * A name for each argument of one tool, by the same rules as `nameAll`: the first place of `PLACES` keeps a name that
 * several want, and the others say where they are from.
 */
export const nameArguments = (all: readonly Argument[]): string[] => {
  const plain = new Set(all.map(({ name }) => name))
  if (
    plain.size === all.length &&
    all.every(({ name, renamed }) => renamed === undefined && argumentName(name) === name)
  )
    return all.map(({ name }) => name)
  const keyOf = ({ in: place, name }: Argument): string => `${place}:${name}`
  const taken = new Set(all.flatMap(({ renamed }) => renamed ?? []))
  const names = new Map<Argument, string>()
  const order = [...all].sort(
    (a, b) => PLACES.indexOf(a.in) - PLACES.indexOf(b.in) || (a.name < b.name ? -1 : a.name > b.name ? 1 : 0),
  )
  // A name that needs no change comes before one that was made to fit.
  for (const isExact of [true, false])
    for (const argument of order) {
      const plain = argumentName(argument.name)
      if (argument.renamed !== undefined || names.has(argument) || (plain === argument.name) !== isExact) continue
      const placed = `${argument.in}_${plain}`.slice(0, MAX_NAME)
      const name = [plain, placed].find((each) => !taken.has(each)) ?? withSuffix(plain, keyOf(argument))
      taken.add(name)
      names.set(argument, name)
    }
  return all.map((argument) => argument.renamed ?? names.get(argument)!)
}
