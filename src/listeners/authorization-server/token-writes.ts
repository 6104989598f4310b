import { Provider } from 'oidc-provider'
import type { StoreWrite } from '#foundation/store'

/** What a token request writes before its answer leaves. */
interface TokenWrites {
  /** The refresh token that the request has used, by the hash that the store knows it by. */
  used: string | undefined
  readonly writes: (() => Promise<StoreWrite>)[]
}

const writesOf = new WeakMap<object, TokenWrites>()

/**
 * The writes of the token request under way. They are made with its record: a refresh that is refused, or not recorded,
 * uses no refresh token. Undefined outside of one.
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

/** The writes of a request, for its record to take along. */
export const writesIn = (context: object): Promise<StoreWrite[]> =>
  Promise.all((writesOf.get(context)?.writes ?? []).map((write) => write()))
