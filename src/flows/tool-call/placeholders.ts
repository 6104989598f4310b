import { refuse } from '#errors'
import type { IssuedToken } from '#flows/exchange'
import type { ApiRequest, Operation, Value } from '#openapi'

const count = (text: string | Buffer, placeholder: string): number => {
  let found = 0
  for (let at = text.indexOf(placeholder); at >= 0; at = text.indexOf(placeholder, at + 1)) found += 1
  return found
}

const ofFile = (value: Value): unknown => (value.from === 'file' ? value.value : null)

/** What the document and the file of an API put into the path by themselves. */
const ownPath = ({ path, parameters }: Operation): unknown => [
  path,
  ...parameters.filter((each) => each.in === 'path').map(({ value }) => ofFile(value)),
]

/** What the file of an API puts into the body. */
const ownBody = ({ body }: Operation): readonly unknown[] => {
  if (body === undefined) return []
  return body.value.from === 'whole'
    ? [ofFile(body.value.value)]
    : body.value.properties.map(({ value }) => ofFile(value))
}

/**
 * The credential takes the place of a placeholder, wherever that is. An argument with the placeholder would put the
 * credential where the caller can read it later, such as into a comment, so only the file of the API may write it.
 * @throws DeputyError `malformed_request`
 */
export const assertOwnPlaceholders = (
  { inject }: NonNullable<IssuedToken['injection']>,
  operation: Operation,
  { path, body = Buffer.alloc(0) }: ApiRequest,
): void => {
  for (const way of inject.as) {
    if (!('path' in way || 'body' in way)) continue
    const [placeholder, text, own] =
      'path' in way ? [way.path, path, ownPath(operation)] : [way.body, body, ownBody(operation)]
    if (count(text, placeholder) > count(JSON.stringify(own), placeholder))
      throw refuse('malformed_request', { problem: 'an argument has the placeholder of the credential in it' })
  }
}
