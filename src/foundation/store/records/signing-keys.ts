export interface StoredSigningKey {
  readonly kid: string
  readonly purpose: 'token' | 'checkpoint' | 'client' | 'cloud'
  readonly publicJwk: Readonly<Record<string, unknown>>
  /** Private JWK, sealed for OWN_TENANT with kind `signing-key` and id `kid`. */
  readonly sealed: Uint8Array
  readonly createdAt: number
  /** Signs until then. */
  readonly signsUntil: number
  /** Published until then. */
  readonly publishedUntil: number
}

export interface SigningKeyStore {
  put(key: StoredSigningKey): Promise<void>
  list(): Promise<StoredSigningKey[]>
  remove(kid: string): Promise<void>
}
