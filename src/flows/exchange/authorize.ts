import type { Downstream, Server, Snapshot } from '#config'
import { narrowingOf } from '#credentials/connector'
import { refuse } from '#errors'
import { ownValue } from '#foundation/text'
import {
  decideJointly,
  type JointDecision,
  type JointQuestion,
  type OperationFacts,
  type Policy,
  type PolicyQuestion,
} from '#identity/policy'
import { questionOf, type Asking } from './question.ts'
import type { TokenRequest } from './request.ts'
import { scopesWithin } from './scopes.ts'
import { idsOf, type Target } from './target.ts'

/** Who asks for which scopes at a target; the exchange, `deputy policy explain` and the tools' view all ask alike. */
export interface Authorization {
  readonly server: Server
  readonly tenant: string
  readonly subject: Asking['subject']
  readonly target: Target
  readonly wish: Pick<TokenRequest, 'scopes' | 'tool'>
  readonly snapshot: Snapshot
  /** ms since the epoch. */
  readonly now: number
}

const registeredAt = ({ target }: Authorization, { downstream }: Downstream): ReadonlySet<string> =>
  new Set(ownValue(target.uses, downstream)?.scopes)

/** The scopes that policy is asked about, for each downstream of the target. @throws DeputyError `scope_not_available` */
export const candidateScopes = (asking: Authorization): string[][] => {
  const { target, server, wish } = asking
  return target.downstreams.map((downstream) =>
    scopesWithin(wish.scopes, { downstream, registered: registeredAt(asking, downstream) }, server, wish.tool),
  )
}

const operationOf = (
  { server }: Server,
  name: string | undefined,
  { hosted }: Snapshot,
): OperationFacts | undefined => {
  const found = name === undefined ? undefined : hosted.get(server)?.get(name)
  if (found === undefined) return undefined
  const { api, tool } = found
  const { method, path } = tool.operation
  return { api: api.api, method, path, ...tool.effects }
}

/** A file that lists its scopes lists every one that exists; of one that lists none, any may mean something there. */
const existsAt = (asking: Authorization, downstream: Downstream): ((scope: string) => boolean) => {
  const registered = registeredAt(asking, downstream)
  const listed = Object.keys(downstream.scopes)
  return (scope) => listed.length === 0 || listed.includes(scope) || registered.has(scope)
}

/**
 * What policy allows of a request: each downstream is asked about with the scopes that the server is registered for there
 * (promise 1). A denial is an answer; the caller refuses.
 * @throws DeputyError `scope_not_available` where nothing is registered of what was asked, `targets_share_no_scope`
 */
export const authorize = (policy: Policy, asking: Authorization): JointDecision => {
  const { target, server, tenant, subject, wish, snapshot, now } = asking
  const candidates = candidateScopes(asking)
  const questionAt = (downstream: Downstream, at: number): PolicyQuestion =>
    questionOf({
      server,
      tenant,
      downstream,
      scopes: candidates[at]!,
      subject,
      tool: wish.tool,
      operation: operationOf(server, wish.tool, snapshot),
      environment: snapshot.settings.environment,
      narrows: narrowingOf(downstream, snapshot.providers),
      now,
    })
  const [only, ...others] = target.downstreams
  if (others.length === 0) {
    const decision = policy.decide(questionAt(only, 0))
    return { ...decision, denied: decision.allowed ? [] : [only.downstream] }
  }
  const questions = target.downstreams.map((downstream, at) => ({
    exists: existsAt(asking, downstream),
    question: questionAt(downstream, at),
  }))
  const decision = decideJointly(policy, questions)
  // Where one of them would be left without a scope, the token would be another than any that was asked for.
  const isEmptied = ({ exists }: JointQuestion, at: number): boolean =>
    candidates[at]!.length > 0 && !decision.scopes.some(exists)
  if (decision.allowed && questions.some(isEmptied))
    throw refuse('targets_share_no_scope', { targets: idsOf(target).join(' and '), server: server.server })
  return decision
}
