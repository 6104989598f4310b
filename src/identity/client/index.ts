/**
 * MCP clients that sign users in through Deputy, and the sign-ins. The connect flow begins a sign-in, the authorization server
 * issues tokens for it, and subject verification reads it again when such a token comes back.
 */
export {
  type AgentClient,
  agentOf,
  agentsIn,
  isClientAllowed,
  isVouchedFor,
  type KnownBy,
  knownBy,
} from './known-by.ts'
export { type ClientMetadata, readClientMetadata } from './metadata.ts'
export {
  type ClientRegistry,
  createClientRegistry,
  hashOfRandomSecret,
  type KnownClient,
  type SeenDocument,
} from './registry.ts'
export {
  type ClientSessions,
  type ClientSignIn,
  createClientSessions,
  type NewClientSignIn,
  tenantOfSession,
} from './sessions.ts'
