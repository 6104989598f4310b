/** RFC 8693 section 3. */
export type TokenTypeUri = `urn:${string}:token-type:${string}`
export const ACCESS_TOKEN_TYPE: TokenTypeUri = 'urn:ietf:params:oauth:token-type:access_token'
export const JWT_TOKEN_TYPE: TokenTypeUri = 'urn:ietf:params:oauth:token-type:jwt'
export const ID_TOKEN_TYPE: TokenTypeUri = 'urn:ietf:params:oauth:token-type:id_token'
/** draft-ietf-oauth-identity-assertion-authz-grant: an identity assertion that one authorization server takes for a grant. */
export const ID_JAG_TOKEN_TYPE: TokenTypeUri = 'urn:ietf:params:oauth:token-type:id-jag'
/** draft-ietf-oauth-transaction-tokens: a short-lived token that goes along with one call through a chain of services. */
export const TXN_TOKEN_TYPE: TokenTypeUri = 'urn:ietf:params:oauth:token-type:txn_token'
/** Ours: a secret that is no token, such as an API key. */
export const SECRET_TOKEN_TYPE: TokenTypeUri = 'urn:deputy:params:oauth:token-type:secret'
