/** Media types of bodies and answers (RFC 9110 section 8.3.1). */

export type BodyKind = 'json' | 'form' | 'multipart' | 'text' | 'binary'

/** Without parameters, in lower case. */
export const essence = (mediaType: string): string => mediaType.split(';', 1)[0]!.trim().toLowerCase()

export const isJson = (mediaType: string): boolean => /^(application|text)\/json$|\+json$/.test(essence(mediaType))

const TEXT =
  /^(text\/.*|application\/(.*\+)?(xml|yaml|x-yaml|x-ndjson|ndjson|jsonl|json-seq|javascript|graphql|sdp|x-pem-file|x-www-form-urlencoded|toml|sql)|image\/svg\+xml|.*\+(xml|yaml|json-seq))$/

export const isText = (mediaType: string): boolean => TEXT.test(essence(mediaType))

export const kindOf = (mediaType: string): BodyKind => {
  const type = essence(mediaType)
  if (isJson(type)) return 'json'
  if (type === 'application/x-www-form-urlencoded') return 'form'
  if (type.startsWith('multipart/')) return 'multipart'
  return isText(type) ? 'text' : 'binary'
}

/** The order in which a form of a body is chosen: what a model writes best comes first. */
export const KINDS: readonly BodyKind[] = ['json', 'form', 'multipart', 'text', 'binary']

/** RFC 9110 section 8.3.1, or a range of them; it goes into a header. */
export const isMediaType = (text: string): boolean =>
  /^[\w!#$&^.+*-]{1,80}\/[\w!#$&^.+*-]{1,80}(; ?[\w-]{1,40}=("[\x20\x21\x23-\x5b\x5d-\x7e]{0,80}"|[\w.+-]{1,80})){0,5}$/.test(
    text,
  )
