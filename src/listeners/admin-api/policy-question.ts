import type { z } from 'zod'
import { scopesAt, type Server, servesTenant, type Snapshot } from '#config'
import { clientQuestion } from '#flows/connect'
import { refuse } from '#errors'
import { assertForAgent, authorize, candidateScopes, resolveTarget, toolOf } from '#flows/exchange'
import { didYouMean } from '#foundation/text'
import { agentOf, agentsIn, isClientAllowed } from '#identity/client'
import { type Policy, SIGN_IN } from '#identity/policy'
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

type Question = z.output<typeof policyQuestionSchema>

/** Why the sign-in fails, or the client gets no token, whatever policy says. */
const signInNotes = ({ tenant, client = '' }: Question, server: Server, snapshot: Snapshot): string[] => [
  ...(server.sign_in === 'deputy'
    ? []
    : [`Users do not sign in at Deputy for ${server.server} (sign_in of its file).`]),
  ...(servesTenant(server.tenants, tenant) ? [] : [`${server.server} does not serve ${tenant}.`]),
  ...(isClientAllowed(client, { tenant, server: server.server }, snapshot)
    ? []
    : [`The files do not let users of ${tenant} sign in at ${client} for ${server.server}.`]),
]

/** Answers by the question of the sign-in itself. @throws DeputyError `malformed_request`, `subject_tenant_unknown` */
const explainSignIn = (
  question: Question,
  server: Server,
  { snapshot, policy, now }: { readonly snapshot: Snapshot; readonly policy: Policy; readonly now: number },
) => {
  const { tenant, user, client, groups, claims, acr, scopes = server.basic_scopes, time } = question
  if (user === undefined || client === undefined)
    throw refuse('malformed_request', { problem: 'a question about the sign-in names user and client' })
  const at = time === undefined ? now : Date.parse(time)
  const signIn = {
    tenant,
    user,
    client,
    server: server.server,
    groups,
    claims: { ...claims, ...(acr === undefined ? {} : { acr }) },
  }
  const decision = policy.decide(clientQuestion({ ...signIn, issuer: undefined }, scopes, snapshot, at))
  const notes = [...notInUse(server), ...signInNotes(question, server, snapshot)]
  return {
    allowed: decision.allowed,
    asked: scopes,
    registered: scopesAt(server),
    scopes: decision.scopes,
    policies: decision.policies,
    errors: decision.errors,
    credential: SIGN_IN,
    ...(notes.length === 0 ? {} : { note: notes.join(' ') }),
  }
}

const notInUse = (server: Server): string[] =>
  isInUse(server) ? [] : [`${server.server} is ${server.status}: it gets nothing whatever policy says.`]

/** Answers by the very steps of the exchange, without issuing: target, registration, policy. */
export const explainPolicy = (question: Question, snapshot: Snapshot, policy: Policy, now: number) => {
  const server = snapshot.servers.get(question.server)
  if (server === undefined) throw unknown('server', question.server, snapshot.servers.keys())
  const { tenant } = question
  if (!snapshot.tenants.has(tenant)) throw unknown('tenant', tenant, snapshot.tenants.keys())
  if ((question.sign_in ?? false) === (question.downstream !== undefined))
    throw refuse('malformed_request', { problem: 'ask either about a downstream or about the sign-in' })
  if (question.downstream === undefined) return explainSignIn(question, server, { snapshot, policy, now })
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
    ...notInUse(server),
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
