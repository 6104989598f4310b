import type { CedarValueJson, Context, Entities, EntityUid } from '@cedar-policy/cedar-wasm/nodejs'
import type { PolicyQuestion } from './decision.ts'

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
  return values.every((value) => ['string', 'number', 'boolean'].includes(typeof value)) ? values.map(String) : undefined
}

const toTags = (claims: Readonly<Record<string, unknown>>): Record<string, CedarValueJson> => {
  const tags: Record<string, CedarValueJson> = {}
  for (const [name, claim] of Object.entries(claims)) {
    const tag = toTag(claim)
    if (tag !== undefined) tags[name] = tag
  }
  return tags
}

export const toCedar = (question: PolicyQuestion): CedarQuestion => {
  const tenant = uid('Tenant', question.tenant)
  const workload = uid('Workload', question.server.id)
  const resource = uid('Downstream', question.downstream.id)
  const team = question.server.team === undefined ? [] : [uid('Team', question.server.team)]
  const entities: Entities = [
    { uid: tenant, attrs: {}, parents: [] },
    { uid: workload, attrs: { owner: question.server.owner, status: question.server.status }, parents: team },
    { uid: resource, attrs: {}, parents: [] },
  ]
  let principal = workload
  if (question.principal.kind === 'user') {
    const { user, groups, claims } = question.principal
    principal = uid('User', within(question.tenant, user))
    const memberOf = groups.map((group) => uid('Group', within(question.tenant, group)))
    entities.push(
      ...memberOf.map((group) => ({ uid: group, attrs: {}, parents: [tenant] })),
      { uid: principal, attrs: { tenant: { __entity: tenant } }, parents: [...memberOf, tenant], tags: toTags(claims) },
    )
  }
  const context: Context = {
    workload: { __entity: workload }, tenant: { __entity: tenant }, environment: question.environment,
    time: { __extn: { fn: 'datetime', arg: new Date(question.now).toISOString() } },
    ...(question.tool === undefined ? {} : { tool: question.tool }),
    ...(question.acr === undefined ? {} : { acr: question.acr }),
  }
  return { principal, action: uid('Action', question.action), resource, entities, contextWith: (scopes) => ({ ...context, scopes: [...scopes] }) }
}
