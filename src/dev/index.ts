/**
 * A development world for authors of MCP servers: an identity provider whose users have no passwords, a notes service
 * with OAuth, a tenant with policies, and the real daemon, on loopback alone. Only the command `deputy dev` and the
 * quickstart call it, and no other part of Deputy imports it.
 */
export { parseForm, type Form, type Page } from './browser.ts'
export { clientSnippets } from './clients.ts'
export { DevError } from './error.ts'
export { describeExchange, isExchange } from './exchange-line.ts'
export { accountOf, type DevUser, DOWNSTREAM, SERVER, SERVICE_CLIENT, TENANT, USERS } from './facts.ts'
export { KeptRecords } from './kept-records.ts'
export { type NotesService, startNotesService } from './notes-service.ts'
export { newSigningKey, type OpenIdServer, type OpenIdServerOptions, startOpenIdServer } from './openid-server.ts'
export type { SignInPage } from './pages.ts'
export { type Ports, readState } from './state.ts'
export { findWorld, mintUserToken } from './token.ts'
export { type DevServer, type DevWorld, type DevWorldOptions, startDevWorld } from './world.ts'
