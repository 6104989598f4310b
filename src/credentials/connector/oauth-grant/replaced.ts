import type { Envelope } from '#foundation/crypto'
import type { Grant } from '#foundation/store'
import type { Revocable } from '../connector.ts'
import { openTokens } from './grant.ts'

/**
 * Ends a grant that a second connection has replaced at its provider. The order is durable first, so that it is carried out however
 * this process ends. Services that answer a second connection with the tokens of the first have nothing to end.
 */
export const createEndReplaced =
  ({ upstream, envelope }: { readonly upstream: Revocable; readonly envelope: Envelope }) =>
  async (replaced: Grant, by: Grant): Promise<void> => {
    const [old, current] = [await openTokens(envelope, replaced), await openTokens(envelope, by)]
    const isSame = old.refreshToken?.reveal() === current.refreshToken?.reveal() && old.refreshToken !== undefined
    if (isSame || old.accessToken.reveal() === current.accessToken.reveal()) return
    // Its id may be that of the grant in its place, which is in use.
    const order = (await upstream.prepare([replaced])).get(replaced.id)
    await upstream.revoke(replaced, order)
  }
