/** Names that RFCs give: URIs of token types (RFC 8693) and the claims `act` and `cnf`. Every room may import it; it imports nothing. */
export type { ActorClaim, ProofBinding } from './claims.ts'
export {
  ACCESS_TOKEN_TYPE,
  ID_JAG_TOKEN_TYPE,
  ID_TOKEN_TYPE,
  JWT_TOKEN_TYPE,
  SECRET_TOKEN_TYPE,
  type TokenTypeUri,
  TXN_TOKEN_TYPE,
} from './token-type.ts'
