import type { Revoker } from '#flows/revocation'
import { lossesSchema, revokeSchema } from './contract.ts'
import type { AdminContext } from './dependencies.ts'
import { namedBy, parse, present, type AdminEndpoints, type AdminRequest, unconfirmedAs } from './endpoint.ts'

const revoke = async ({ check, revoker }: AdminContext, request: AdminRequest): Promise<object> => {
  const { scope: ordered, reason, dry_run: dryRun, force } = parse(revokeSchema, request.body)
  const scope = await check.scope(present(ordered) as Parameters<Revoker['preview']>[0], force)
  const receipt = dryRun
    ? await revoker.preview(scope)
    : await revoker
        .revoke({
          scope,
          by: request.by(),
          correlationId: request.correlationId,
          ...(reason === undefined ? {} : { reason }),
        })
        .catch(unconfirmedAs('order_unrecorded'))
  // The revocation comes first: the search reads the whole audit log.
  return scope.kind === 'token'
    ? { ...receipt, token: await check.token(scope.token) }
    : { ...receipt, ...namedBy(ordered, scope) }
}

/** Revocations, those that are queued for providers, and losses of the store. */
export const revocationEndpoints = (context: AdminContext): AdminEndpoints => ({
  'POST /revoke': (request) => revoke(context, request),
  'GET /revocations': () => context.store.revocations.list(),
  'GET /upstream-revocations': async () =>
    (await context.store.upstreamRevocations.list()).map(({ sealed: _, ...facts }) => facts),
  'GET /losses': () => context.store.losses.open(),
  'POST /losses/acknowledge': async (request) => {
    const { losses } = parse(lossesSchema, request.body)
    await request.recordFirst({ event: 'store.acknowledge', detail: { losses } })
    return { acknowledged: await context.store.losses.acknowledge(losses, request.by(), context.now()) }
  },
})
