import type { KoaContextWithOIDC } from 'oidc-provider'
import { refuse } from '#errors'
import type { Rates } from '#foundation/cache'
import { paths } from '#listeners/http'
import { addressOf } from './new-clients.ts'
import { answerRefusal, showRefusal } from './refusal.ts'

/** Each request that begins a sign-in is kept for ten minutes: so large may it be (bytes). */
const MAX_REQUEST = 8192

const beginsAt = ({ method, path }: KoaContextWithOIDC): boolean =>
  (method === 'GET' && path === paths.authorize) || (method === 'POST' && path === paths.pushedAuthorization)

/**
 * Bounds the sign-ins that callers begin who have shown nothing yet.
 * @returns whether the request may go on; if not, it is answered
 */
export const admitSignIn = async (rates: Pick<Rates, 'admit'>, context: KoaContextWithOIDC): Promise<boolean> => {
  if (!beginsAt(context)) return true
  try {
    const size = context.querystring.length + (context.request.length ?? 0)
    if (size > MAX_REQUEST) throw refuse('body_too_large', { limit: MAX_REQUEST })
    await rates.admit('sign_ins_by_address', [addressOf(context.req)])
    await rates.admit('sign_ins', [])
    return true
  } catch (thrown) {
    if (context.path === paths.authorize) showRefusal(context, thrown)
    else answerRefusal(context, thrown)
    return false
  }
}
