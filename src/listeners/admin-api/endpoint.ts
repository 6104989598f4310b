import type { z } from 'zod'
import { refuse } from '#errors'
import type { AuditEvent } from '#foundation/audit'

/** A request to the admin API. */
export interface AdminRequest {
  readonly body: unknown
  readonly query: unknown
  readonly correlationId: string
  /** The caller, as the kernel names it. */
  by(): string
  /** Appends the record of an order, with its caller. @throws DeputyError when it cannot be written */
  record(entry: {
    readonly event: AuditEvent
    readonly tenant?: string
    readonly user?: string
    readonly detail: object
  }): Promise<void>
}

/** An answer that is sent as it comes, as lines of JSON. */
export class LinesAnswer {
  readonly chunks: AsyncIterable<string | Uint8Array>

  constructor(chunks: AsyncIterable<string | Uint8Array>) {
    this.chunks = chunks
  }
}

/** @returns what is sent as JSON, or `LinesAnswer`. @throws DeputyError */
export type AdminHandler = (request: AdminRequest) => Promise<unknown>

/** Endpoints by method and path. */
export type AdminEndpoints = Readonly<Record<`${'GET' | 'POST'} /${string}`, AdminHandler>>

/** @throws DeputyError `malformed_request` that names the field */
export const parse = <Schema extends z.ZodType>(schema: Schema, value: unknown): z.output<Schema> => {
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  throw refuse('malformed_request', {
    problem: `${issue?.path.join('.') || 'the body'}: ${issue?.message ?? 'not as expected'}`,
  })
}

/** The fields that were sent; zod leaves `undefined` where nothing was. */
export const present = <T extends object>(value: T): { [K in keyof T]: Exclude<T[K], undefined> } =>
  Object.fromEntries(Object.entries(value).filter(([, each]) => each !== undefined)) as {
    [K in keyof T]: Exclude<T[K], undefined>
  }

/** What the receipt of an order says when it named a user by a name in place of the id. */
export const namedBy = (ordered: object, done: object): { named?: string } =>
  'user' in ordered && 'user' in done && ordered.user !== done.user ? { named: String(ordered.user) } : {}
