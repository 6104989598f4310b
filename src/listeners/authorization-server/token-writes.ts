import { Provider } from 'oidc-provider'

/** What a token request writes before its answer leaves. */
interface TokenWrites {
  /** The refresh token that the request has used, by the hash that the store knows it by. */
  used: string | undefined
  readonly writes: (() => Promise<void>)[]
}

const writesOf = new WeakMap<object, TokenWrites>()

/**
 * The writes of the token request under way. They are made when its record is durable and all of it may leave: a refresh that is refused,
 * or not recorded, uses no refresh token. Undefined outside of one.
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

/** Makes the writes of a request, and resolves when they are durable. @throws what one of them throws */
export const makeWrites = async (context: object): Promise<void> => {
  await Promise.all((writesOf.get(context)?.writes ?? []).map((write) => write()))
}
