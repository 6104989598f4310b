import type { CedarValueJson, Context, Entities, EntityUid } from '@cedar-policy/cedar-wasm/nodejs'
import { claimAt } from '#foundation/text'
import { type OperationFacts, type PolicyQuestion, SIGN_IN } from './decision.ts'
import type { Footprint } from './footprint.ts'

/** A question in Cedar's terms, except for its scopes: those are asked about in several ways. */
export interface CedarQuestion {
  readonly principal: EntityUid
  readonly action: EntityUid
  readonly resource: EntityUid
  readonly entities: Entities
  contextWith(scopes: readonly string[]): Context
}

const uid = (type: string, id: string) => ({ type: `Deputy::${type}`, id })

/** Tenant ids hold no slash, so tenant and name cannot run together. */
const within = (tenant: string, name: string): string => `${tenant}/${name}`

/** A claim as a set of texts: what is no text, number or boolean, or a list of them, is not for policy. */
const toTag = (claim: unknown): string[] | undefined => {
  const values = Array.isArray(claim) ? claim : [claim]
  return values.every((value) => ['string', 'number', 'boolean'].includes(typeof value))
    ? values.map(String)
    : undefined
}

/**
 * The claims that policies read, by the names that they have for them: those of the token, and nested ones by their
 * paths.
 */
export const claimsRead = (
  claims: Readonly<Record<string, unknown>>,
  { readsClaim, claimPaths }: Footprint,
): (readonly [name: string, claim: unknown])[] => [
  ...Object.entries(claims).filter(([name]) => readsClaim(name)),
  ...claimPaths
    .filter((path) => !Object.hasOwn(claims, path))
    .map((path) => [path, claimAt(claims, path)] as const)
    .filter(([, claim]) => claim !== undefined),
]

const toTags = (claims: Readonly<Record<string, unknown>>, footprint: Footprint): Record<string, CedarValueJson> => {
  const tags = claimsRead(claims, footprint).flatMap(([name, claim]) => {
    const tag = toTag(claim)
    return tag === undefined ? [] : [[name, tag] as const]
  })
  // Not by assignment: a claim of the name `__proto__` would change the object instead of being one of its entries.
  return Object.fromEntries(tags)
}

const toRecord = ({ readOnly, ...facts }: OperationFacts): Record<string, CedarValueJson> => ({
  ...facts,
  read_only: readOnly,
})

/**
 * The question as Cedar takes it, with the facts that the policies look at. Entities that say nothing but their name
 * (tenants, groups, downstreams) are not listed: Cedar knows them as a parent of another entity or from the request.
 * That what is built here fits the schema is shown by a test, not checked again for every request.
 */
export const toCedar = (question: PolicyQuestion, footprint: Footprint): CedarQuestion => {
  const tenant = uid('Tenant', question.tenant)
  const workload = uid('Workload', question.server.id)
  const team = question.server.team === undefined ? [] : [uid('Team', question.server.team)]
  const { readsContext, readsAttribute } = footprint
  const entities: Entities = []
  const isSignIn = question.action === SIGN_IN
  if (question.principal.kind === 'workload' || readsContext('workload') || isSignIn)
    entities.push({
      uid: workload,
      attrs: { owner: question.server.owner, status: question.server.status },
      parents: team,
    })
  let principal = workload
  if (question.principal.kind === 'user') {
    const { user, groups, claims } = question.principal
    principal = uid('User', within(question.tenant, user))
    const memberOf = groups.map((group) => uid('Group', within(question.tenant, group)))
    entities.push({
      uid: principal,
      attrs: readsAttribute('tenant') ? { tenant: { __entity: tenant } } : {},
      parents: [...memberOf, tenant],
      tags: toTags(claims, footprint),
    })
  }
  if (question.principal.kind === 'agent') {
    const { agent, owner } = question.principal
    principal = uid('Agent', within(question.tenant, agent))
    entities.push({ uid: principal, attrs: { tenant: { __entity: tenant }, owner }, parents: [tenant] })
  }
  const context: Context = {
    ...(readsContext('workload') ? { workload: { __entity: workload } } : {}),
    ...(readsContext('tenant') ? { tenant: { __entity: tenant } } : {}),
    ...(readsContext('narrows') ? { narrows: [...question.narrows] } : {}),
    ...(readsContext('environment') ? { environment: question.environment } : {}),
    ...(readsContext('time')
      ? { time: { __extn: { fn: 'datetime', arg: new Date(question.now).toISOString() } } }
      : {}),
    ...(readsContext('tool') && question.tool !== undefined ? { tool: question.tool } : {}),
    ...(readsContext('operation') && question.operation !== undefined
      ? { operation: toRecord(question.operation) }
      : {}),
    ...(readsContext('acr') && question.acr !== undefined ? { acr: question.acr } : {}),
    ...(readsContext('client') && question.client !== undefined ? { client: { ...question.client } } : {}),
  }
  return {
    principal,
    action: uid('Action', question.action),
    resource: isSignIn ? workload : uid('Downstream', question.downstream.id),
    entities,
    contextWith: (scopes) => (readsContext('scopes') ? { ...context, scopes: [...scopes] } : context),
  }
}
