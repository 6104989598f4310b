/**
 * The authorization server for MCP clients, at the public address: `oidc-provider` with Deputy's store, keys and checks. Only the
 * public listener calls it. `provider.ts` says what the library may do, `adapter.ts` where it keeps records, `tokens.ts` what
 * happens before a token leaves. Users sign in and consent on the connect pages.
 */
export { type AuthorizationServer, createAuthorizationServer } from './server.ts'
