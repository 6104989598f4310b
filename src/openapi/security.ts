import { ownValue } from '#foundation/text'
import type { ApiDocument } from './document.ts'
import { isObject, objectAt, textAt } from './json.ts'
import type { DocumentOperation } from './operations.ts'
import type { References } from './references.ts'

/**
 * The scopes that the document wants for an operation: of its security requirements (any one is enough) the one with
 * the fewest scopes. Requirements without a token, such as `{}` and keys, need none.
 */
export const scopesOf = (
  { definition }: Pick<DocumentOperation, 'definition'>,
  { root }: ApiDocument,
  references: References,
): string[] => {
  const schemes = objectAt(objectAt(root, 'components'), 'securitySchemes')
  const isToken = (name: string): boolean =>
    ['oauth2', 'openIdConnect'].includes(
      textAt(schemes === undefined ? undefined : references.follow(ownValue(schemes, name)), 'type') ?? '',
    )
  const requirements = definition.security ?? root.security
  if (!Array.isArray(requirements)) return []
  const wanted = requirements.filter(isObject).flatMap((requirement) => {
    const tokens = Object.entries(requirement).filter(([name]) => isToken(name))
    const scopes = tokens.flatMap(([, list]) =>
      Array.isArray(list) ? list.filter((each) => typeof each === 'string') : [],
    )
    return tokens.length === 0 ? [] : [[...new Set(scopes)]]
  })
  return wanted.sort((a, b) => a.length - b.length)[0] ?? []
}
