/**
 * What Deputy itself uses of the middleware, for the MCP servers that it hosts: the same gate, and the same questions
 * to the user.
 */
export { DeputyClientError } from '../error.ts'
export { parseInactive, parseIntrospected, parseRegistration, type Registration } from '../registration.ts'
export type { GateDeputy } from './authorize.ts'
export { type Caller, callerOf, type VerifiedCaller } from './caller.ts'
export { CONNECT_WAIT_MS, failed, plainly, questionOf, takesUrls, untilConnected } from './connection.ts'
export { createGateAt } from './gate.ts'
export { placesOf } from './metadata.ts'
export { createRequestState, type RequestState } from './request-state.ts'
export { errorOf } from '../answer.ts'
