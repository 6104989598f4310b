/**
 * RFC 3986 section 2.3: letters, digits and `-._~` stand for themselves; everything else is escaped.
 * @throws URIError half of a pair
 */
export const escapeAll = (text: string): string =>
  encodeURIComponent(text).replace(/[!'()*]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`)

/** Reserved characters that neither end a value nor begin another one (`allowReserved`). */
const KEPT = /%(3A|2F|3F|40|21|24|27|28|29|2A|2C)/g

/** As `escapeAll`, with the reserved characters that are safe inside of a query left as they are. */
export const escapeReserved = (text: string): string =>
  escapeAll(text).replace(KEPT, (code) => decodeURIComponent(code))
