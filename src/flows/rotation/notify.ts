import { type Clock, toSeconds } from '#clock'
import type { RotationPolicy } from '#config'
import type { ResolveSecret } from '#credentials/secret'
import type { Egress } from '#foundation/outbound'
import type { Rotation } from '#foundation/store'
import type { Logger } from '#foundation/telemetry'
import { signatureOf } from './signature.ts'

/** Pauses before the second and third attempt (ms). */
const PAUSES_MS = [1000, 5000]

/**
 * Tells the webhooks of a policy how a rotation ended, or that it needs a person. No secret is in it. Three attempts; what
 * is not delivered then is in the log, and the record of the rotation is in the audit log in any case.
 */
export const createRotationNotifier = (deps: {
  readonly egress: Egress
  readonly resolveSecret: ResolveSecret
  readonly clock: Clock
  readonly logger: Logger
  readonly pause?: (milliseconds: number) => Promise<void>
}) => {
  const pause =
    deps.pause ??
    ((milliseconds) =>
      new Promise<void>((resolve) => {
        setTimeout(resolve, milliseconds).unref()
      }))

  const deliver = async (url: string, key: string, body: string): Promise<void> => {
    for (let attempt = 0; ; attempt += 1) {
      try {
        const seconds = toSeconds(deps.clock.now())
        const response = await deps.egress(url, {
          method: 'POST',
          headers: { 'content-type': 'application/json', 'deputy-signature': signatureOf(key, seconds, body) },
          body,
        })
        await response.body?.cancel()
        if (!response.ok) throw new Error(`it answered ${response.status}`)
        return
      } catch (error) {
        const wait = PAUSES_MS[attempt]
        if (wait === undefined) throw error
        await pause(wait)
      }
    }
  }

  return async (rotation: Rotation, policy: RotationPolicy): Promise<void> => {
    const { id, tenant, backend, secret, rotator, reason, state, step, problem } = rotation
    const body = JSON.stringify({
      event: 'rotation',
      rotation: id,
      policy: policy.rotation,
      owner: policy.owner,
      tenant,
      backend,
      secret,
      rotator,
      reason,
      state,
      step,
      problem,
      at: new Date(deps.clock.now()).toISOString(),
    })
    await Promise.all(
      policy.notify.map(async ({ webhook, secret: reference }) => {
        try {
          await deliver(webhook, (await deps.resolveSecret(reference, tenant)).reveal(), body)
        } catch (error) {
          deps.logger.error(
            { err: error, rotation: id, webhook: new URL(webhook).origin },
            'a webhook was not notified of a rotation',
          )
        }
      }),
    )
  }
}
