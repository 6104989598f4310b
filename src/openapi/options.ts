import type { Pagination } from './tool.ts'

/** What the file of an API says of one argument. */
export interface ParameterOptions {
  readonly name?: string | undefined
  readonly description?: string | undefined
  readonly value?: unknown
  readonly default?: unknown
  readonly hidden: boolean
  readonly slashes?: boolean | undefined
}

/** An operation that the file names. */
export interface OperationEntry {
  readonly operation: string
  readonly name?: string | undefined
  readonly title?: string | undefined
  readonly description?: string | undefined
  readonly parameters: Readonly<Record<string, ParameterOptions>>
  readonly effects: {
    readonly read_only?: boolean | undefined
    readonly destructive?: boolean | undefined
    readonly idempotent?: boolean | undefined
  }
  readonly scopes?: readonly string[] | undefined
  readonly select?: readonly string[] | undefined
  readonly pagination?: Pagination | undefined
  readonly timeout?: number | undefined
  readonly max_bytes?: number | undefined
}

/** Operations that the file names together. */
export type GroupEntry =
  | { readonly tag: string; readonly methods?: readonly string[] | undefined }
  | { readonly path: string; readonly methods?: readonly string[] | undefined }

export type ToolEntry = OperationEntry | GroupEntry

/** What the converter reads of `apis/<id>.yaml`. */
export interface ApiOptions {
  readonly api: string
  readonly base_url?: string | undefined
  readonly variables: Readonly<Record<string, string>>
  readonly scopes: Readonly<Record<string, string>>
  readonly tools: readonly ToolEntry[]
  readonly timeout: number
  readonly max_bytes: number
  readonly document: { readonly source?: string | undefined }
}

/** An entry that says nothing but which operation. */
export const plainEntry = (operation: string): OperationEntry => ({ operation, parameters: {}, effects: {} })
