/** A remote MCP server as a downstream: its metadata, its authorization server, a client there, and the files for them. */
export { type AuthorizationServer, findAuthorizationServer } from './authorization-server.ts'
export { type RemoteFacts, remoteDownstreamText, remoteProviderText, usableScopes } from './files.ts'
export { findProtectedResource, isResourceOf, type ProtectedResource } from './protected-resource.ts'
export { documentAuthentication, registerAt, type RegisteredClient, registrableAuthentication } from './registration.ts'
