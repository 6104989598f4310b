/**
 * Scopes that say who the user is, or that a refresh token comes back, and that open no API by themselves: OpenID
 * Connect Core 1.0 sections 3.1.2.1 (`openid`), 5.4 (`profile`, `email`, `address`, `phone`) and 11 (`offline_access`).
 * Many providers name them in an answer although the request did not.
 */
const IDENTITY_SCOPES: ReadonlySet<string> = new Set([
  'openid',
  'profile',
  'email',
  'address',
  'phone',
  'offline_access',
])

/**
 * Whether a scope of an answer that the request did not name is no surplus.
 * @param offered the scopes that the downstream's file gives a meaning: one of these is always a surplus
 */
export const isIdentityScope = (scope: string, offered: Readonly<Record<string, string>>): boolean =>
  IDENTITY_SCOPES.has(scope) && !Object.hasOwn(offered, scope)
