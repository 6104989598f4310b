/** The shortest form that is searched for (bytes): shorter ones occur by chance. */
const MIN_FORM_BYTES = 4

const HTML: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' }

/** The characters of the base64 form that these bytes alone decide, wherever in a longer text they begin (RFC 4648 section 4). */
const base64Forms = (bytes: Buffer): string[] =>
  [0, 1, 2].map((before) =>
    Buffer.concat([Buffer.alloc(before), bytes])
      .toString('base64')
      .slice(Math.ceil((before * 8) / 6), Math.floor(((before + bytes.length) * 8) / 6)),
  )

/** The forms in which a service may repeat a secret: as it is, escaped for URLs, JSON and HTML, and in base64, also as a part of something longer. */
export const formsOf = (secrets: readonly string[]): Buffer[] => {
  const forms = secrets.flatMap((secret) => {
    const json = JSON.stringify(secret).slice(1, -1)
    const percent = encodeURIComponent(secret)
    const strict = percent.replace(/[!'()*~]/g, (each) => `%${each.charCodeAt(0).toString(16).toUpperCase()}`)
    return [
      secret,
      json,
      json.replaceAll('/', '\\/'),
      secret.replace(/[&<>"']/g, (each) => HTML[each]!),
      ...[percent, strict].flatMap((each) =>
        [each, each.replaceAll('%20', '+')].flatMap((form) => [
          form,
          form.replace(/%[0-9A-F]{2}/g, (escape) => escape.toLowerCase()),
        ]),
      ),
      ...base64Forms(Buffer.from(secret)).flatMap((each) => [each, each.replaceAll('+', '-').replaceAll('/', '_')]),
    ]
  })
  return [...new Set(forms)].map((form) => Buffer.from(form)).filter(({ length }) => length >= MIN_FORM_BYTES)
}
