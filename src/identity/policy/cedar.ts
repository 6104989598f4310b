import { createRequire } from 'node:module'
import { setFlagsFromString } from 'node:v8'
import { createLru } from '#foundation/lru'
import { refuse } from '#errors'
import { cacheKey } from '#foundation/cache'
import { type Policy, type PolicyDecision, type PolicyQuestion, SIGN_IN } from './decision.ts'
import type { Footprint } from './footprint.ts'
import { claimsRead, toCedar, type CedarQuestion } from './question.ts'

// V8 compiles a function of WebAssembly a second time, optimized, after some calls: reading the policies at a start is
// enough for that, and cost as much again as the reading. With eight times its patience only functions that decide
// requests are worth it. The flag counts for modules that are instantiated after it.
setFlagsFromString('--wasm-tiering-budget=104000000')

// The package's Node build is CommonJS; loaded this way the types stay and no bundler is needed.
export const cedar = createRequire(import.meta.url)(
  '@cedar-policy/cedar-wasm/nodejs',
) as typeof import('@cedar-policy/cedar-wasm/nodejs')

const CACHED_DECISIONS = 10_000

interface Answer {
  readonly allowed: boolean
  readonly policies: readonly string[]
  readonly errors: readonly string[]
}

const ask = (set: string, question: CedarQuestion, scopes: readonly string[]): Answer => {
  let answer
  try {
    answer = cedar.statefulIsAuthorized({
      principal: question.principal,
      action: question.action,
      resource: question.resource,
      entities: question.entities,
      context: question.contextWith(scopes),
      preparsedPolicySetId: set,
    })
  } catch (error) {
    // A text that is no Unicode, such as half a surrogate pair in a claim, does not reach Cedar at all.
    return {
      allowed: false,
      policies: [],
      errors: [`the question could not be put: ${error instanceof Error ? error.message : String(error)}`],
    }
  }
  if (answer.type === 'failure')
    return { allowed: false, policies: [], errors: answer.errors.map(({ message }) => message) }
  const { decision, diagnostics } = answer.response
  const errors = diagnostics.errors.map(({ policyId, error }) => `${policyId}: ${error.message}`)
  // A policy that fails to evaluate is left out by Cedar. A forbid that was left out would widen, so any failure denies.
  return { allowed: decision === 'allow' && errors.length === 0, policies: diagnostics.reason.toSorted(), errors }
}

const union = (answers: readonly Answer[], field: 'policies' | 'errors'): string[] =>
  [...new Set(answers.flatMap((answer) => answer[field]))].sort()

/**
 * First all scopes together. When policy does not allow them together, each alone: those that it allows alone are
 * asked about together once more, so that what is issued is always a set that policy has allowed as it stands.
 */
const decideAnew = (set: string, question: PolicyQuestion, footprint: Footprint): PolicyDecision => {
  const asked = toCedar(question, footprint)
  const whole = ask(set, asked, question.scopes)
  if (question.action === SIGN_IN) {
    // Cedar names the policies that forbid; where it names none, none does, and no permit is missed.
    const allowed = whole.errors.length === 0 && (whole.allowed || whole.policies.length === 0)
    return { ...whole, allowed, scopes: allowed ? question.scopes : [] }
  }
  if (whole.allowed) return { allowed: true, scopes: question.scopes, policies: whole.policies, errors: [] }
  const denied = (answers: readonly Answer[]): PolicyDecision => ({
    allowed: false,
    scopes: [],
    policies: union(answers, 'policies'),
    errors: union(answers, 'errors'),
  })
  if (question.scopes.length < 2) return denied([whole])
  const single = question.scopes.map((scope) => ({ scope, answer: ask(set, asked, [scope]) }))
  const scopes = single.filter(({ answer }) => answer.allowed).map(({ scope }) => scope)
  const answers = [whole, ...single.map(({ answer }) => answer)]
  if (scopes.length === 0) return denied(answers)
  const confirmed = ask(set, asked, scopes)
  return confirmed.allowed
    ? { allowed: true, scopes, policies: confirmed.policies, errors: [] }
    : denied([...answers, confirmed])
}

/** The claims that policies read, as one text whatever their order in the token. */
const textOfClaims = (claims: Readonly<Record<string, unknown>>, footprint: Footprint): string =>
  JSON.stringify(claimsRead(claims, footprint).sort(([a], [b]) => (a < b ? -1 : 1)))

/** Every fact of a question that the policies look at, but the time. */
const createKey = (footprint: Footprint): ((question: PolicyQuestion) => string) => {
  /** Claims of one verified token are one object: written out once, not once a request. */
  const claimTexts = new WeakMap<object, string>()
  const claimsText = (claims: Readonly<Record<string, unknown>>): string => {
    let text = claimTexts.get(claims)
    if (text === undefined) claimTexts.set(claims, (text = textOfClaims(claims, footprint)))
    return text
  }
  return ({
    principal,
    action,
    server,
    downstream,
    tenant,
    scopes,
    tool,
    operation,
    environment,
    narrows,
    acr,
    client,
  }) =>
    cacheKey(
      principal.kind,
      ...(principal.kind === 'user'
        ? [
            footprint.readsUser ? principal.user : '',
            claimsText(principal.claims),
            String(principal.groups.length),
            ...principal.groups,
          ]
        : []),
      ...(principal.kind === 'agent' ? [principal.agent, principal.owner] : []),
      action,
      server.id,
      server.owner,
      server.team ?? '',
      server.status,
      downstream.id,
      tenant,
      environment,
      narrows.join(' '),
      tool === undefined ? '-' : `+${tool}`,
      operation === undefined ? '-' : `+${JSON.stringify(operation)}`,
      acr === undefined ? '-' : `+${acr}`,
      client === undefined ? '-' : `+${client.known} ${client.id}`,
      ...scopes,
    )
}

/** What policies look at has to be known: one that forbids by it would forbid nothing. @throws DeputyError `subject_claims_omitted` */
const assertKnown = ({ principal }: PolicyQuestion, { readsGroups, readsClaim, claimPaths }: Footprint): void => {
  if (principal.kind !== 'user' || principal.omitted === undefined) return
  const { claims, groups } = principal.omitted
  const isRead = (name: string): boolean => readsClaim(name) || claimPaths.some((path) => path.startsWith(`${name}.`))
  if ((groups && readsGroups) || claims.some(isRead))
    throw refuse('subject_claims_omitted', { claims: claims.join(', ') })
}

/**
 * Decides by a preparsed policy set. Decisions are remembered by the facts of the question that the policies look at;
 * where a policy looks at the time, none is.
 * @param set name under which the policies were preparsed
 */
export const createPolicy = (set: string, footprint: Footprint): Policy => {
  const decisions = createLru<string, PolicyDecision>({ max: CACHED_DECISIONS })
  const keyOf = createKey(footprint)
  const readsTime = footprint.readsContext('time')
  return {
    readsTime,
    decide(question) {
      assertKnown(question, footprint)
      if (readsTime) return decideAnew(set, question, footprint)
      const key = keyOf(question)
      let decision = decisions.get(key)
      if (decision === undefined) decisions.set(key, (decision = decideAnew(set, question, footprint)))
      return decision
    },
  }
}
