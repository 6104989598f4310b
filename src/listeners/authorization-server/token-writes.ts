import { Provider } from 'oidc-provider'

/** What the answer of a token request waits for. */
interface TokenWrites {
  /** The refresh token that the request has used, by the hash that the store knows it by. */
  used: string | undefined
  readonly writes: Promise<void>[]
}

const writesOf = new WeakMap<object, TokenWrites>()

/**
 * The writes of the token request under way: they are made together, beside its audit record, in place of one after the other.
 * Undefined outside of one.
 */
export const tokenWrites = (): TokenWrites | undefined => {
  const context = Provider.ctx
  if (context?.oidc?.route !== 'token') return undefined
  const known = writesOf.get(context)
  if (known !== undefined) return known
  const writes: TokenWrites = { used: undefined, writes: [] }
  writesOf.set(context, writes)
  return writes
}

/** Adds a write, whose failure `settled` tells. */
export const addWrite = ({ writes }: TokenWrites, write: Promise<void>): void => {
  write.catch(() => undefined)
  writes.push(write)
}

/** Resolves when all writes of a request are durable. @throws what one of them throws */
export const settled = async (context: object): Promise<void> => {
  await Promise.all(writesOf.get(context)?.writes ?? [])
}
