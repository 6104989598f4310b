import type { Server } from '#config'

/** The scope of using a server at all. It keeps a request without any other from being one for nothing, and is not shown. */
export const USE = 'deputy:use'
export const shownScopes = (scopes: Iterable<string>): string[] => [...scopes].filter((scope) => scope !== USE)

/** Scopes that a client may ask for at a server: those that its tools and its use as such need. */
export const scopesAt = ({ basic_scopes: basic, tools }: Server): string[] => [
  ...new Set([...basic, ...Object.values(tools).flatMap(({ requires }) => requires)]),
]
