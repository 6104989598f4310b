/** The ID token of a user's last sign-in at the tenant's identity provider, as ciphertext. */
export interface IdentityToken {
  readonly tenant: string
  readonly user: string
  readonly issuer: string
  readonly sealed: Uint8Array
  /** The end of the token. */
  readonly expiresAt: number
}

export interface IdentityTokenFilter {
  tenant?: string
  user?: string
  issuer?: string
}

export interface IdentityTokenStore {
  find(owner: { readonly tenant: string; readonly user: string }, now: number): Promise<IdentityToken | undefined>
  /** Replaces the user's earlier one. */
  put(token: IdentityToken): Promise<void>
  /** @returns how many there were */
  remove(filter: IdentityTokenFilter): Promise<number>
  sweep(now: number): Promise<number>
}
