/** The scope of using a server at all. It keeps a request without any other from being one for nothing, and is not shown. */
export const USE = 'deputy:use'
export const shownScopes = (scopes: Iterable<string>): string[] => [...scopes].filter((scope) => scope !== USE)
