import type { Policy, PolicyDecision, PolicyQuestion } from './decision.ts'

/** One downstream of a joint credential, with the scopes that could be issued for it by itself. */
export interface JointQuestion {
  readonly question: PolicyQuestion
  /** Whether a scope says anything at this downstream. One that does not exist there gives no right there. */
  readonly exists: (scope: string) => boolean
}

/** A decision about one credential for several downstreams. */
export interface JointDecision extends PolicyDecision {
  /** The downstreams for which policy allows nothing. */
  readonly denied: readonly string[]
}

const union = (decisions: readonly PolicyDecision[], field: 'policies' | 'errors'): string[] =>
  [...new Set(decisions.flatMap((decision) => decision[field]))].sort()

/**
 * Decides for one credential that several downstreams take. Its rights are every scope at every target (RFC 8693
 * section 2.1), so a scope is in it only if policy allows it at each downstream where it exists, and the credential is issued only if policy
 * allows it at each. What is left is asked about again until it is what policy has allowed as it stands: a policy may allow
 * scopes together that it does not allow apart.
 */
export const decideJointly = (policy: Policy, questions: readonly JointQuestion[]): JointDecision => {
  let decisions = questions.map(({ question }) => policy.decide(question))
  for (;;) {
    const latest = decisions
    const scopes = [...new Set(latest.flatMap((decision) => decision.scopes))]
      .filter((scope) => questions.every(({ exists }, at) => !exists(scope) || latest[at]!.scopes.includes(scope)))
      .sort()
    const outcome = {
      policies: union(latest, 'policies'),
      errors: union(latest, 'errors'),
      denied: questions.filter((_, at) => !latest[at]!.allowed).map(({ question }) => question.downstream.id),
    }
    if (outcome.denied.length > 0) return { ...outcome, allowed: false, scopes: [] }
    const own = questions.map(({ exists }) => scopes.filter(exists))
    // Each round takes scopes away, so there are no more rounds than scopes.
    if (latest.every((decision, at) => decision.scopes.length === own[at]!.length))
      return { ...outcome, allowed: true, scopes }
    decisions = questions.map(({ question }, at) => policy.decide({ ...question, scopes: own[at]! }))
  }
}
