/** The pages on which a user signs in, consents, and authorizes a downstream. A public listener serves them. */
export { createConnect } from './connect.ts'
export { createIdentityTokens } from './identity-tokens.ts'
export { createSealedSessions } from './sealed-sessions.ts'
