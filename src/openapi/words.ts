/** Characters of a description that reach a client; models read all of it, on every request. */
export const MAX_DESCRIPTION = 2000
/** Of an argument or a property. */
export const MAX_NOTE = 500
export const MAX_TITLE = 200

/** Characters that a reader does not see: controls, bidirectional and zero-width ones, tags, halves of a pair. */
const INVISIBLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Co}\p{Default_Ignorable_Code_Point}]/gu

/** Whether a text has characters that a reader does not see. */
export const hasInvisible = (text: string): boolean => text.search(INVISIBLE) >= 0

/** Printable ASCII without a space at an end: most texts. */
const PLAIN = /^[!-~](?:[ -~]*[!-~])?$/

/** No more of a text is looked at: what comes after is cut in any case. */
const LOOKED_AT = 4

/**
 * A text of a document for clients: data, of which a reader sees all. Lines and tabs stay.
 * @param max characters; a longer text ends with an ellipsis
 */
export const cleanText = (text: string, max: number): string => {
  if (text.length <= max && PLAIN.test(text)) return text
  const clean = text
    .slice(0, max * LOOKED_AT)
    .replaceAll('\r\n', '\n')
    .replace(INVISIBLE, (character) => (character === '\n' || character === '\t' ? character : ''))
    .trim()
  if (clean.length <= max) return clean
  // A pair of surrogates is not cut in two.
  return `${clean.slice(0, max - 1).replace(/[\ud800-\udbff]$/, '')}…`
}

/** Texts as paragraphs, without those that are empty or repeat another. */
export const paragraphs = (texts: readonly (string | undefined)[], max: number): string => {
  const parts = texts.flatMap((text) => {
    const clean = text === undefined ? '' : cleanText(text, max)
    return clean === '' ? [] : [clean]
  })
  return cleanText([...new Set(parts)].join('\n\n'), max)
}

/** A text of one line. */
export const cleanTitle = (text: string): string => cleanText(text.replace(/\s+/g, ' '), MAX_TITLE)
