import { grantQuerySchema } from './contract.ts'
import type { AdminContext } from './dependencies.ts'
import { parse, present, type AdminEndpoints } from './endpoint.ts'

/** What users and servers hold: grants, leases, consents, sessions. Nothing sealed leaves. */
export const grantEndpoints = ({ store, leases, check }: AdminContext): AdminEndpoints => ({
  'GET /grants': async ({ query }) => {
    const { after, limit, ...filter } = parse(grantQuerySchema, query)
    const grants = await store.grants.list(await check.filter(present(filter)), {
      limit,
      ...(after === undefined ? {} : { after }),
    })
    return grants.map(({ sealed: _, ...facts }) => facts)
  },
  'GET /leases': async ({ query }) => {
    const { after: _a, limit, provider: _p, ...filter } = parse(grantQuerySchema, query)
    return (await leases.list(await check.filter(present(filter))))
      .slice(0, limit)
      .map(({ sealed: _, ...facts }) => facts)
  },
  'GET /consents': async ({ query }) => {
    const { after: _a, limit: _l, id: _i, provider: _p, ...filter } = parse(grantQuerySchema, query)
    return store.consents.list(await check.filter(present(filter)))
  },
  'GET /sessions': async () => (await store.sessions.list()).map(({ sealed: _, ...facts }) => facts),
})
