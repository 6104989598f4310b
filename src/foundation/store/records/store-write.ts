/**
 * Statements that happen together or not at all, and that no constraint refuses. It is prepared, and made by the party
 * that is given it.
 */
export interface StoreWrite {
  readonly statements: readonly { readonly sql: string; readonly parameters: readonly unknown[] }[]
}
