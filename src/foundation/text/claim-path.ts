import { ownValue } from './own-value.ts'

/** No claim is nested deeper, and no more parts of a path are tried. */
const MAX_DEPTH = 10

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/**
 * The claim of a name, or at a path with dots, such as `realm_access.roles` and `resource_access.ledger.roles`
 * (Keycloak). A claim whose own name has dots
 * in it, such as a URL, comes before one that is nested, on each level.
 */
export const claimAt = (claims: Readonly<Record<string, unknown>>, path: string, depth = 0): unknown => {
  const whole = ownValue(claims, path)
  if (whole !== undefined || depth === MAX_DEPTH) return whole
  for (let dot = path.indexOf('.'); dot > 0; dot = path.indexOf('.', dot + 1)) {
    const inner = ownValue(claims, path.slice(0, dot))
    const found = isObject(inner) ? claimAt(inner, path.slice(dot + 1), depth + 1) : undefined
    if (found !== undefined) return found
  }
  return undefined
}
