import { liftProofOf, type LastingOrder } from '#flows/revocation'
import { freezeSchema, thawSchema, userSchema } from './contract.ts'
import type { AdminContext } from './dependencies.ts'
import { namedBy, parse, type AdminEndpoints, type AdminRequest } from './endpoint.ts'

const disabledAt = async ({ store }: AdminContext, tenant: string, user: string): Promise<number | undefined> =>
  (await store.disabledUsers.list()).find((each) => each.tenant === tenant && each.user === user)?.at

const frozenAt = async ({ store }: AdminContext, tenant: string): Promise<number | undefined> =>
  (await store.frozenTenants.list()).find((each) => each.tenant === tenant)?.at

/** What the record says of the order that it lifts, with its proof; empty where no order was in effect. */
const liftOf = ({ fingerprint }: AdminContext, order: Omit<LastingOrder, 'at'>, at: number | undefined): object =>
  at === undefined ? {} : { lifts: at, proof: liftProofOf(fingerprint, { ...order, at }) }

const disableUser = async (context: AdminContext, request: AdminRequest): Promise<object> => {
  const { store, membership, revocationIndex, check, now } = context
  const { tenant, user: named, force } = parse(userSchema, request.body)
  const user = await check.user(tenant, named, force)
  const order = { tenant, user, at: now(), by: request.by() }
  const write = () => store.disabledUsers.add(order)
  const change = await membership.record(write)
  revocationIndex.disable(order)
  const nodes = await membership.confirm(change, write)
  const since = await disabledAt(context, tenant, user)
  await request.record({ event: 'user.disable', tenant, user, detail: { nodes, since } })
  return { tenant, user, disabled: true, nodes, ...namedBy({ user: named }, { user }) }
}

const enableUser = async (context: AdminContext, request: AdminRequest): Promise<object> => {
  const { store, revocationIndex, check } = context
  const { tenant, user: named, force } = parse(userSchema, request.body)
  const user = await check.user(tenant, named, force)
  // The proof comes first: an order that is gone without one would be put back at the next start.
  const lifted = liftOf(context, { tenant, user }, await disabledAt(context, tenant, user))
  await request.recordFirst({ event: 'user.enable', tenant, user, detail: lifted })
  const was = await store.disabledUsers.remove(tenant, user)
  revocationIndex.enable(tenant, user)
  return { tenant, user, disabled: false, was_disabled: was, ...namedBy({ user: named }, { user }) }
}

const freezeTenant = async (context: AdminContext, request: AdminRequest): Promise<object> => {
  const { store, membership, revocationIndex, check, now } = context
  const { tenant, reason = null } = parse(freezeSchema, request.body)
  await check.tenant(tenant)
  const order = { tenant, at: now(), by: request.by(), reason }
  const write = () => store.frozenTenants.add(order)
  const change = await membership.record(write)
  revocationIndex.freeze(order)
  const nodes = await membership.confirm(change, write)
  const since = await frozenAt(context, tenant)
  await request.record({ event: 'tenant.freeze', tenant, detail: { reason, nodes, since } })
  return { tenant, frozen: true, nodes }
}

const thawTenant = async (context: AdminContext, request: AdminRequest): Promise<object> => {
  const { store, revocationIndex, check } = context
  const { tenant } = parse(thawSchema, request.body)
  await check.tenant(tenant)
  const lifted = liftOf(context, { tenant }, await frozenAt(context, tenant))
  await request.recordFirst({ event: 'tenant.thaw', tenant, detail: lifted })
  const was = await store.frozenTenants.remove(tenant)
  revocationIndex.thaw(tenant)
  return { tenant, frozen: false, was_frozen: was }
}

/** Orders that are in effect until they are lifted: disabled users and frozen tenants. */
export const lastingOrderEndpoints = (context: AdminContext): AdminEndpoints => ({
  'GET /users/disabled': () => context.store.disabledUsers.list(),
  'POST /users/disable': (request) => disableUser(context, request),
  'POST /users/enable': (request) => enableUser(context, request),
  'GET /tenants/frozen': () => context.store.frozenTenants.list(),
  'POST /tenants/freeze': (request) => freezeTenant(context, request),
  'POST /tenants/thaw': (request) => thawTenant(context, request),
})
