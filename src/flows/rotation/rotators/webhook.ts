import { type Clock, type Random, toSeconds } from '#clock'
import type { RotatorSettingsOf } from '#config'
import type { Secret } from '#foundation/crypto'
import type { Egress } from '#foundation/outbound'
import type { RotatedSecret } from '#foundation/store'
import type { ChoosingRotator } from '../rotator.ts'
import { signatureOf } from '../signature.ts'
import { revealed, rotatorOfSteps, type DoStep } from './steps.ts'

/** What the service answers for a login that is refused; a step that is done is any other success. */
const REFUSED = 409
const MAX_ANSWER_BYTES = 65_536

/**
 * `webhook`: a service of the security team's, over https. It gets each step as a JSON object, signed like every webhook of
 * Deputy's (the header `Deputy-Signature`), and with the secrets that the step is about in it.
 */
export const createWebhookRotator = (
  how: RotatorSettingsOf<'webhook'>,
  deps: { secret: RotatedSecret; key: () => Promise<Secret>; egress: Egress; clock: Clock; random: Random },
): ChoosingRotator => {
  const doStep: DoStep = async (step, secrets) => {
    const body = JSON.stringify({ step, tenant: deps.secret.tenant, secret: deps.secret.secret, ...revealed(secrets) })
    const signature = signatureOf((await deps.key()).reveal(), toSeconds(deps.clock.now()), body)
    const response = await deps.egress(how.url, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'deputy-signature': signature },
      body,
      maxBytes: MAX_ANSWER_BYTES,
    })
    const output = await response.text()
    if (response.status === REFUSED) return { refused: true, output }
    if (!response.ok) throw new Error(`the service answered the step ${step} with ${response.status}`)
    return { refused: false, output }
  }
  return rotatorOfSteps(doStep, {
    kind: 'webhook',
    target: new URL(how.url).host,
    supportsDualSecrets: how.keeps_old,
    random: deps.random,
  })
}
