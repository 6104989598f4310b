import type { Expr, PolicyJson } from '@cedar-policy/cedar-wasm/nodejs'

/**
 * What a set of policies looks at. A fact that no policy can see cannot change a decision: it is neither handed to
 * Cedar nor part of the key under which a decision is remembered. Where the policies do not say by name what they
 * read, they count as reading all.
 */
export interface Footprint {
  /** Whether the attribute of the request's context is read. */
  readsContext(attribute: string): boolean
  /** Whether the attribute of an entity is read. */
  readsAttribute(name: string): boolean
  /** Whether the claim, a tag of the user, is read. */
  readsClaim(name: string): boolean
  /** Paths of nested claims that are read, such as `realm_access.roles`. */
  readonly claimPaths: readonly string[]
  /** Whether some policy names a group. */
  readonly readsGroups: boolean
  /** Whether some policy tells one user from another by name. */
  readonly readsUser: boolean
}

/** Names that are read; undefined: any may be. */
type Names = Set<string> | undefined

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null

/** Whose tag it is makes no difference: only users have tags. */
const tagRead = (node: Record<string, unknown>): Record<string, unknown> | undefined => {
  const read = node['hasTag'] ?? node['getTag']
  return isRecord(read) ? read : undefined
}

/** `x.attribute`, `x has attribute` or `x has attribute.deeper`: what x is, and the attribute's name. */
const attributeRead = (node: Record<string, unknown>): { of: unknown; attribute: string } | undefined => {
  const read = node['.'] ?? node['has']
  if (!isRecord(read)) return undefined
  const [attribute]: unknown[] = [read['attr']].flat()
  return typeof attribute === 'string' ? { of: read['left'], attribute } : undefined
}

/** Reads it off the policies' JSON form (https://docs.cedarpolicy.com/policies/json-format.html). */
export const footprintOf = (policies: readonly PolicyJson[]): Footprint => {
  let context: Names = new Set()
  let claims: Names = new Set()
  const attributes = new Set<string>()
  let readsUser = false
  let readsGroups = false

  const visit = (node: unknown): void => {
    if (Array.isArray(node)) {
      node.forEach(visit)
      return
    }
    if (!isRecord(node)) return
    const read = attributeRead(node)
    if (read !== undefined && isRecord(read.of) && read.of['Var'] === 'context') {
      context?.add(read.attribute)
      return
    }
    if (read !== undefined) attributes.add(read.attribute)
    const tag = tagRead(node)
    if (tag !== undefined) {
      const name = isRecord(tag['right']) ? tag['right']['Value'] : undefined
      if (typeof name === 'string') claims?.add(name)
      else claims = undefined
    }
    if (node['Var'] === 'context') context = undefined
    if (node['type'] === 'Deputy::User') readsUser = true
    // `is Deputy::Group` has the type by another name.
    if (node['type'] === 'Deputy::Group' || node['entity_type'] === 'Deputy::Group') readsGroups = true
    Object.values(node).forEach(visit)
  }

  for (const { principal, action, resource, conditions } of policies) {
    const bodies: readonly Expr[] = conditions.map(({ body }) => body)
    visit([principal, action, resource, bodies])
  }
  return {
    readsContext: (attribute) => context === undefined || context.has(attribute),
    readsAttribute: (name) => attributes.has(name),
    readsClaim: (name) => claims === undefined || claims.has(name),
    claimPaths: [...(claims ?? [])].filter((name) => name.includes('.')),
    readsGroups,
    readsUser,
  }
}
