import { asDeputyError } from '#errors'
import type { Store } from '#foundation/store'

/** What the status says of a fact of the store: where it cannot be read that, and never that all is well. */
export const orUnread = async (reading: Promise<string>): Promise<string> => {
  try {
    return await reading
  } catch (error) {
    return `the store cannot be asked: ${asDeputyError(error).message}`
  }
}

/** Whether the store has lost what it had confirmed, by what nodes noticed and no person has acknowledged. */
export const historyState = (losses: Pick<Store['losses'], 'open'>): Promise<string> =>
  orUnread(
    losses.open().then((open) => {
      const [first] = open
      return first === undefined
        ? 'ok'
        : `the store has lost what it had confirmed, as the node ${first.node} noticed at ${new Date(first.at).toISOString()}${open.length === 1 ? '' : ` (and ${open.length - 1} more)`}: ${String(first.detail['problem'])}; see deputy store losses`
    }),
  )
