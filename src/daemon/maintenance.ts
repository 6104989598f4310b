import { oneAtATime } from '#foundation/async'
import { NAME_MEMORY_MS } from '#identity/subject'
import type { DaemonContext } from './context.ts'
import type { Made } from './stages/flows.ts'

/** How often what has expired is swept, keys are looked at and providers are told again (ms). */
const INTERVAL_MS = 60_000

/** Removes what has expired, and renews signing keys when they are due. */
const maintain = async ({ clock }: DaemonContext, made: Made): Promise<void> => {
  const { store, revocationIndex, alone, signingKeys, leases, reportLosses } = made
  const now = clock.now()
  await store.attempts.sweep(now)
  await store.replays.sweep(now)
  await store.identityTokens.sweep(now)
  await store.authorizationRecords.sweep(now)
  await store.clientSessions.sweep(now)
  await store.clients.sweep(now)
  await store.userNames.sweep(now - NAME_MEMORY_MS)
  await store.revocations.sweep(now)
  await store.secretHolders.sweep(now)
  revocationIndex.sweep(now)
  await alone(async () => {
    await signingKeys.refresh()
    await signingKeys.rotateWhenDue()
  })
  await leases.sweep()
  await reportLosses()
  await made.auditRetention?.keep()
}

/** Starts the duties of every minute. Each duty runs by itself: providers that are slow to end grants delay no other duty. */
export const startMaintenance = (context: DaemonContext, made: Made): void => {
  const { logger, atEnd } = context
  const duties = [() => maintain(context, made), () => made.oauthGrant.drainUpstreamRevocations()].map((duty) =>
    oneAtATime(() =>
      duty().catch((error: unknown) => {
        logger.warn({ err: error }, 'maintenance failed; retrying in one minute')
      }),
    ),
  )
  const timer = setInterval(() => {
    for (const attend of duties) attend()
  }, INTERVAL_MS)
  timer.unref()
  atEnd(() => {
    clearInterval(timer)
  })
}
