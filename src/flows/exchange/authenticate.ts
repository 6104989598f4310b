import type { Caller, ExchangeContext, ExchangeDependencies, Note } from './context.ts'

/**
 * Step 1: which registered server calls, within its rate, and which key it has proved to have.
 * @throws DeputyError `workload_unknown` and its kin, `rate_limited`, `proof_invalid`
 */
export const authenticate = (
  { attest, snapshot, rates, checkProof, telemetry }: ExchangeDependencies,
  { origin, wish }: ExchangeContext,
  note: Note,
): Promise<Caller> =>
  telemetry.span('deputy.attest', {}, async () => {
    const workload = await attest(origin.evidence, snapshot())
    note({ workload })
    await rates.admit('server', [workload.server.server])
    if (wish.proof === undefined) return { workload }
    const proved = await checkProof(wish.proof)
    note({ proved })
    return { workload, proved }
  })
