/** `cnf` of a token: the thumbprint of a DPoP key (RFC 9449 section 6.1), or of a certificate (RFC 8705 section 3.1). */
export type ProofBinding = { readonly jkt: string } | { readonly 'x5t#S256': string }

export interface ActorClaim {
  readonly sub: string
  readonly iss?: string
  readonly client_id?: string
}
