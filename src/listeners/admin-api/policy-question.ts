import type { z } from 'zod'
import type { Snapshot } from '#config'
import { refuse } from '#errors'
import { assertForAgent, authorize, candidateScopes, resolveTarget, toolOf } from '#flows/exchange'
import { didYouMean } from '#foundation/text'
import { agentOf, agentsIn } from '#identity/client'
import type { Policy } from '#identity/policy'
import { isInUse } from '#identity/workload'
import type { policyQuestionSchema } from './contract.ts'

/** A name in a question that no file defines. */
const unknown = (kind: string, name: string, known: Iterable<string>) => {
  const near = didYouMean(name, known)
  return refuse('name_unknown', { kind, name, hint: near === '' ? '' : ` ${near}` })
}

/** For whom the server acts: a user, an agent, or undefined for itself. @throws DeputyError `name_unknown`, `malformed_request` */
const subjectOf = (
  { tenant, user, agent, groups, claims, acr, client }: z.output<typeof policyQuestionSchema>,
  snapshot: Snapshot,
) => {
  if (agent === undefined) return user === undefined ? undefined : { user, groups, claims, acr, client }
  if (user !== undefined) throw refuse('malformed_request', { problem: 'name a user or an agent, not both' })
  const found = agentOf(agent, tenant, snapshot)
  if (found === undefined)
    throw unknown(
      'agent',
      agent,
      agentsIn(snapshot).map(({ file }) => file.client),
    )
  const { owner } = found.file
  return { user: undefined, agent: { id: agent, owner }, groups: [], claims: {}, acr: undefined, client: agent }
}

/** Answers by the very steps of the exchange, without issuing: target, registration, policy. */
export const explainPolicy = (
  question: z.output<typeof policyQuestionSchema>,
  snapshot: Snapshot,
  policy: Policy,
  now: number,
) => {
  const server = snapshot.servers.get(question.server)
  if (server === undefined) throw unknown('server', question.server, snapshot.servers.keys())
  const { tenant } = question
  if (!snapshot.tenants.has(tenant)) throw unknown('tenant', tenant, snapshot.tenants.keys())
  const subject = subjectOf(question, snapshot)
  const isUri = URL.canParse(question.downstream)
  const target = resolveTarget(
    { audiences: isUri ? [] : [question.downstream], resources: isUri ? [question.downstream] : [] },
    { server, uses: subject === undefined ? server.service_downstreams : server.downstreams, tenant, snapshot },
  )
  assertForAgent(target, subject)
  const asking = {
    server,
    tenant,
    target,
    wish: {
      ...(question.scopes === undefined ? {} : { scopes: question.scopes }),
      ...(question.tool === undefined ? {} : { tool: question.tool }),
    },
    snapshot,
    subject,
    now: question.time === undefined ? now : Date.parse(question.time),
  }
  const decision = authorize(policy, asking)
  const required = subject === undefined ? [] : (toolOf(server, question.tool)?.requires ?? [])
  const notes = [
    ...(isInUse(server) ? [] : [`${server.server} is ${server.status}: it gets nothing whatever policy says.`]),
    ...(required.length === 0
      ? []
      : [
          `The tool ${question.tool} also requires ${required.join(' ')} of the caller's own token, which is not asked here.`,
        ]),
  ]
  return {
    allowed: decision.allowed,
    asked: question.scopes ?? 'all that are registered',
    registered: candidateScopes(asking)[0],
    scopes: decision.scopes,
    policies: decision.policies,
    errors: decision.errors,
    credential: target.kind,
    ...(notes.length === 0 ? {} : { note: notes.join(' ') }),
  }
}
