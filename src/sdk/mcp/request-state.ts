import { randomBytes, randomUUID } from 'node:crypto'
import { createRequestStateCodec, type ServerContext } from '@modelcontextprotocol/server'
import { callerOf } from './caller.ts'

export interface RequestStateOptions {
  /** At least 32 bytes; the same in every process that serves the server. Default: made at start. */
  readonly key?: Uint8Array
  /** How long a client may take for its retry (seconds; default 600). */
  readonly lifetime?: number
}

export interface RequestState {
  /** For `inputRequired({ requestState })`. It is signed, not encrypted: no secrets. */
  mint(payload: unknown, context: ServerContext): Promise<string>
  /** For `ServerOptions.requestState.verify`. @throws Error whatever is wrong with it */
  verify(state: string, context: ServerContext): Promise<unknown>
}

const LIFETIME_S = 600

/**
 * The state that goes to the client and comes back: signed, of this user, this method and these parameters, for a short
 * time and for one retry. Used ones are remembered by the process, for as long as they would live.
 * @see https://modelcontextprotocol.io/specification/2026-07-28/basic/patterns/mrtr
 */
export const createRequestState = (
  { key = randomBytes(32), lifetime = LIFETIME_S }: RequestStateOptions,
  now: () => number,
): RequestState => {
  const codec = createRequestStateCodec<{ id: string; of: unknown }>({
    key,
    ttlSeconds: lifetime,
    bind: ({ mcpReq, http }) => {
      const { principal, digest } = callerOf(http?.authInfo)
      return JSON.stringify([principal, mcpReq.method, digest])
    },
  })
  /** Ids in the order of their end. */
  const used = new Map<string, number>()
  return {
    mint: (payload, context) => codec.mint({ id: randomUUID(), of: payload }, context),
    async verify(state, context) {
      const { id, of } = await codec.verify(state, context)
      for (const [each, end] of used) {
        if (end > now()) break
        used.delete(each)
      }
      if (used.has(id)) throw new Error('used')
      used.set(id, now() + lifetime * 1000 + 1000)
      return of
    },
  }
}
