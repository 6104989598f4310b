import { type Downstream, type Snapshot, wantsBound } from '#config'
import { providerOf } from '#credentials/connector'
import { refuse } from '#errors'
import { assertNotRevoked } from '#identity/validity'
import { authorize } from './authorize.ts'
import { dependenciesOf, type Authorized, type ExchangeDependencies, type Note, type Proved } from './context.ts'
import { allowInjection } from './injection.ts'
import { assertForAgent, idsOf, resolveTarget } from './target.ts'
import { assertToolScopes } from './tool.ts'

/** Whether a login never crosses the local API (promise 5). */
const isForSocketAlone = (downstream: Downstream): boolean =>
  ('postgres' in downstream && downstream.postgres?.only === true) ||
  ('redis' in downstream && downstream.redis?.only === true)

/** Whether tokens of a downstream are bound to a key of Deputy's, so that only the proxy can use them. */
export const isBound = (downstream: Downstream, { providers }: Snapshot): boolean =>
  wantsBound(downstream, providers.get(providerOf(downstream) ?? ''))

/**
 * Step 3: which downstreams are meant, whether the credential may leave in this way, and which scopes policy allows.
 * @throws DeputyError `target_unknown` and its kin, `insufficient_scope`, `database_only`, `revoked`, `rate_limited`, `policy_denied`
 */
export const authorizeRequest = async (
  deps: ExchangeDependencies,
  { context, caller, beneficiary }: Pick<Proved, 'context' | 'caller' | 'beneficiary'>,
  note: Note,
): Promise<Authorized> => {
  const { wish, event } = context
  const { server } = caller.workload
  const { tenant } = beneficiary.principal
  const { subject, uses } = beneficiary
  const snapshot = deps.snapshot()
  assertToolScopes(server, wish.tool, subject)
  const target = resolveTarget(wish, { server, uses, tenant, snapshot })
  note({ target })
  assertForAgent(target, subject)
  const [injection] = target.downstreams.map((downstream) =>
    allowInjection(downstream, wish.injection, isBound(downstream, snapshot)),
  )
  note({ injection })
  const socketOnly = target.downstreams.find(isForSocketAlone)
  if (event !== 'connection.open' && socketOnly !== undefined)
    throw refuse('database_only', { downstream: socketOnly.downstream })
  assertNotRevoked(dependenciesOf({ context, caller, beneficiary, target }), deps)
  for (const downstream of idsOf(target)) await deps.rates.admit('downstream', [tenant, downstream])
  const decision = authorize(deps.policy(), { server, tenant, target, subject, wish, snapshot, now: deps.clock.now() })
  note({ decision })
  deps.telemetry.decision({ allowed: decision.allowed, credential: target.kind })
  if (!decision.allowed)
    throw refuse('policy_denied', { server: server.server, downstream: decision.denied.join(' and ') })
  return { target, scopes: decision.scopes, injection }
}
