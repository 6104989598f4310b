import { readUsage } from '#identity/workload'
import { policyQuestionSchema, usageQuerySchema } from './contract.ts'
import type { AdminContext } from './dependencies.ts'
import { parse, present, type AdminEndpoints } from './endpoint.ts'
import { explainPolicy } from './policy-question.ts'

const DAY_MS = 86_400_000

/** The registry and its policy, which are files: these endpoints read them and what was called. */
export const registryEndpoints = ({ snapshot, store, policy, now, check }: AdminContext): AdminEndpoints => ({
  'GET /tenants': async () => [...snapshot().tenants.values()],
  'GET /servers': async () => [...snapshot().servers.values()],
  'GET /downstreams': async () => [...snapshot().downstreams.values()],
  'GET /usage': async ({ query }) => {
    const { days } = parse(usageQuerySchema, query)
    return readUsage({ audit: store.audit, servers: snapshot().servers, since: now() - days * DAY_MS })
  },
  'GET /unknown-callers': () => store.unknownCallers.list(),
  'POST /policy/explain': async ({ body }) => {
    const question = await check.filter(present(parse(policyQuestionSchema, body)))
    return explainPolicy(question, snapshot(), policy(), now())
  },
})
