import type { z } from 'zod'
import { DeputyError, refuse } from '#errors'
import type { AuditEvent } from '#foundation/audit'

/** A request to the admin API. */
export interface AdminRequest {
  readonly body: unknown
  readonly query: unknown
  readonly correlationId: string
  /** The caller, as the kernel names it. */
  by(): string
  /** Appends the record of an order that was carried out, with its caller. @throws DeputyError `order_unrecorded` */
  record(entry: OrderRecord): Promise<void>
  /** Appends the record of an order that follows. @throws DeputyError `order_not_begun` */
  recordFirst(entry: OrderRecord): Promise<void>
}

export interface OrderRecord {
  readonly event: AuditEvent
  readonly tenant?: string
  readonly user?: string
  readonly detail: object
}

/** Says what it means for an order that the audit log has not confirmed its record. */
export const unconfirmedAs =
  (code: 'order_unrecorded' | 'order_not_begun') =>
  (error: unknown): never => {
    if (error instanceof DeputyError && error.code === 'audit_unavailable') throw refuse(code, error.facts, error)
    throw error
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
