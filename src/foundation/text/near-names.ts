/** Names that a writer may have meant, for every message about an unknown name. Pure. */

/** Longer names are compared by their beginning: the comparison takes the square of the length. */
const COMPARED_LENGTH = 128

/** A name without what people do not see or do not mind: case, space around, Unicode forms (UAX 15), invisible characters. */
export const foldName = (name: string): string =>
  name
    .normalize('NFKC')
    .replace(/\p{Default_Ignorable_Code_Point}/gu, '')
    .trim()
    .toLowerCase()
    .normalize('NFKC')

/** How many letters have to be added, left out, changed or swapped with the next one (optimal string alignment). */
const distanceOf = (left: readonly string[], right: readonly string[]): number => {
  let [older, old] = [[] as number[], Array.from({ length: right.length + 1 }, (_, at) => at)]
  for (let row = 1; row <= left.length; row += 1) {
    const next = [row]
    for (let column = 1; column <= right.length; column += 1) {
      const same = left[row - 1] === right[column - 1]
      let least = Math.min(old[column]! + 1, next[column - 1]! + 1, old[column - 1]! + (same ? 0 : 1))
      if (row > 1 && column > 1 && left[row - 1] === right[column - 2] && left[row - 2] === right[column - 1])
        least = Math.min(least, older[column - 2]! + 1)
      next.push(least)
    }
    ;[older, old] = [old, next]
  }
  return old[right.length]!
}

const lettersOf = (name: string): string[] => Array.from(foldName(name)).slice(0, COMPARED_LENGTH)

/**
 * The known names that are nearest to one that is not known, nearest first: those that differ in case, space around or
 * Unicode form alone, then those that differ in a few letters (a third of the name, at least one, at most three).
 * The name itself is never among them.
 */
export const nearNames = (name: string, known: Iterable<string>, most = 3): string[] => {
  const letters = lettersOf(name)
  const allowed = Math.min(3, Math.max(1, Math.floor(letters.length / 3)))
  return [...new Set(known)]
    .filter((candidate) => candidate !== name)
    .map((candidate) => ({ candidate, letters: lettersOf(candidate) }))
    .filter((each) => Math.abs(each.letters.length - letters.length) <= allowed)
    .map((each) => ({ ...each, distance: distanceOf(letters, each.letters) }))
    .filter(({ distance }) => distance <= allowed)
    .sort((a, b) => a.distance - b.distance || (a.candidate < b.candidate ? -1 : 1))
    .slice(0, most)
    .map(({ candidate }) => candidate)
}

/** A name in quotes, with the code points of what cannot be told apart on a screen. */
const quoted = (name: string): string =>
  `'${name.replace(/[^\x20-\x7e]/gu, (letter) => `<U+${letter.codePointAt(0)!.toString(16).toUpperCase().padStart(4, '0')}>`)}'`

/** `Did you mean 'alice' or 'alina'?`; empty where no known name is near. Printable ASCII, for any kind of answer. */
export const didYouMean = (name: string, known: Iterable<string>): string => {
  const near = nearNames(name, known).map(quoted)
  return near.length === 0 ? '' : `Did you mean ${near.join(' or ')}?`
}
