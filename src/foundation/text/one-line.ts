/**
 * Names and words that callers, providers and rows of the store bring are in lines for people. What would begin a line
 * of its own, steer a
 * terminal or turn the reading direction is shown as its code point.
 */
export const onOneLine = (line: string): string =>
  line.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu, (character) => `\\u{${character.codePointAt(0)!.toString(16)}}`)
