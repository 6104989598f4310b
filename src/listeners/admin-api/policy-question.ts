import type { z } from 'zod'
import type { Snapshot } from '#config'
import { refuse } from '#errors'
import { authorize, candidateScopes, resolveTarget, toolOf } from '#flows/exchange'
import { didYouMean } from '#foundation/text'
import type { Policy } from '#identity/policy'
import { isInUse } from '#identity/workload'
import type { policyQuestionSchema } from './contract.ts'

/** A name in a question that no file defines. */
const unknown = (kind: string, name: string, known: Iterable<string>) => {
  const near = didYouMean(name, known)
  return refuse('name_unknown', { kind, name, hint: near === '' ? '' : ` ${near}` })
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
  const { tenant, user } = question
  if (!snapshot.tenants.has(tenant)) throw unknown('tenant', tenant, snapshot.tenants.keys())
  const isUri = URL.canParse(question.downstream)
  const target = resolveTarget(
    { audiences: isUri ? [] : [question.downstream], resources: isUri ? [question.downstream] : [] },
    { server, uses: user === undefined ? server.service_downstreams : server.downstreams, tenant, snapshot },
  )
  const asking = {
    server,
    tenant,
    target,
    wish: {
      ...(question.scopes === undefined ? {} : { scopes: question.scopes }),
      ...(question.tool === undefined ? {} : { tool: question.tool }),
    },
    snapshot,
    subject:
      user === undefined
        ? undefined
        : { user, groups: question.groups, claims: question.claims, acr: question.acr, client: question.client },
    now: question.time === undefined ? now : Date.parse(question.time),
  }
  const decision = authorize(policy, asking)
  const required = user === undefined ? [] : (toolOf(server, question.tool)?.requires ?? [])
  const notes = [
    ...(isInUse(server) ? [] : [`${server.server} is ${server.status}: it gets nothing whatever policy says.`]),
    ...(required.length === 0
      ? []
      : [
          `The tool ${question.tool} also requires ${required.join(' ')} of the user's own token, which is not asked here.`,
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
