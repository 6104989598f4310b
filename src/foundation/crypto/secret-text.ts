const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/**
 * The text of a secret, without the line end that editors and `echo` put at its end. Secrets are kept as text: bytes that
 * are no UTF-8 would come out as others, so they are refused.
 * @returns undefined where the bytes are no UTF-8
 */
export const secretText = (bytes: Uint8Array): string | undefined => {
  try {
    return decoder.decode(bytes).replace(/\r?\n$/, '')
  } catch {
    return undefined
  }
}

/** What to do with a secret that is no text. */
export const NO_TEXT = 'it is no UTF-8 text; store it in base64 or hex, as what uses it expects'
