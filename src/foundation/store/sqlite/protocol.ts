/** Values that SQLite stores. */
export type SqlValue = string | number | bigint | Uint8Array | null

/** A statement and the rows of parameters that it runs with. */
export interface BoundStatement {
  readonly sql: string
  readonly rows: readonly (readonly SqlValue[])[]
}

/** What the main thread asks of the thread that holds the database. */
export type StoreRequest =
  /** One statement. */
  | { readonly id: number; readonly kind: 'query'; readonly sql: string; readonly parameters: readonly SqlValue[] }
  /** Statements, each once for every row of its parameters, all in one transaction. */
  | { readonly id: number; readonly kind: 'transaction'; readonly statements: readonly BoundStatement[] }
  | { readonly id: number; readonly kind: 'close' }

/** `held`: it could not be opened because another process has it. */
export type StoreReply =
  | {
      readonly id: number
      readonly rows: readonly Record<string, unknown>[]
      readonly changes: number
      readonly insertId: number
    }
  | { readonly id: number; readonly problem: string; readonly code: number; readonly held?: boolean }

/** The one thread that writes and keeps other processes out, or a further thread that only reads. */
export type StoreRole = 'holder' | 'reader'
export interface StoreThread {
  readonly path: string
  readonly role: StoreRole
}
