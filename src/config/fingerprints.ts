import { createHash } from 'node:crypto'
import { z } from 'zod'
import { sortedJson } from '#foundation/text'
import type { Snapshot } from './snapshot.ts'

/** What nodes on one store have in common where they decide alike, as a short hash of each part. */
export interface Fingerprints {
  readonly issuer: string
  /** Tenants, servers, downstreams, providers, clients, APIs and rotation policies. */
  readonly registry: string
  readonly policies: string
}

/** What people call the parts. */
const WORDS: Readonly<Record<keyof Fingerprints, string>> = {
  issuer: 'another issuer',
  registry: 'other tenants, servers, downstreams, providers, clients, APIs or rotation policies',
  policies: 'other access policies',
}

/** Two files that say the same give the same hash. */
const hashOf = (value: unknown): string =>
  createHash('sha256').update(sortedJson(value)).digest('base64url').slice(0, 16)

const byId = (entries: ReadonlyMap<string, unknown>): unknown => Object.fromEntries(entries)

/** @param policies text of each access policy by its id */
export const fingerprintsOf = (snapshot: Snapshot, policies: Readonly<Record<string, string>>): Fingerprints => ({
  issuer: hashOf(snapshot.settings.issuer),
  registry: hashOf(
    [
      snapshot.tenants,
      snapshot.servers,
      snapshot.downstreams,
      snapshot.providers,
      snapshot.rotations,
      ...(snapshot.clients.size > 0 ? [snapshot.clients] : []),
      // The digest of its document stands in the file of an API.
      ...(snapshot.apis.size > 0 ? [new Map([...snapshot.apis].map(([id, { api }]) => [id, api]))] : []),
    ].map(byId),
  ),
  policies: hashOf(policies),
})

const fingerprintsSchema = z.object({ issuer: z.string(), registry: z.string(), policies: z.string() })

/** Of a text that a node has left in the store; undefined where it is none. */
const read = (text: string): Fingerprints | undefined => {
  try {
    return fingerprintsSchema.parse(JSON.parse(text))
  } catch {
    return undefined
  }
}

/** What another node's configuration has otherwise, in words; undefined where both are the same. */
const differenceOf = (own: Fingerprints, other: Fingerprints): string | undefined => {
  const parts = (Object.keys(WORDS) as (keyof Fingerprints)[]).filter((part) => own[part] !== other[part])
  return parts.length === 0 ? undefined : parts.map((part) => WORDS[part]).join(' and ')
}

/**
 * Which other nodes decide by other files, in a sentence; `ok` where all decide alike.
 * @param others `configuration`: what they have said of themselves; null: nothing, as nodes of earlier versions
 */
export const differingNodes = (
  own: Fingerprints,
  others: readonly { about: string; configuration: string | null; configuredAt: number | null }[],
): string => {
  const differing = others.flatMap(({ about, configuration, configuredAt }) => {
    if (configuration === null) return []
    const other = read(configuration)
    const difference = other === undefined ? 'what cannot be read' : differenceOf(own, other)
    return difference === undefined
      ? []
      : [`the node ${about} has ${difference}, since ${new Date(configuredAt ?? 0).toISOString()}`]
  })
  return differing.length === 0 ? 'ok' : `${differing.join('; ')}; give all nodes the same files`
}
