import { EMBEDDED_BACKEND } from '#credentials/secret'
import { Secret } from '#foundation/crypto'
import { secretNameSchema, secretSchema } from './contract.ts'
import type { AdminContext } from './dependencies.ts'
import { parse, type AdminEndpoints } from './endpoint.ts'

/** Secrets of the embedded backend: written and removed here, never read. */
export const secretEndpoints = ({ snapshot, secrets, secretChanged, check }: AdminContext): AdminEndpoints => ({
  'GET /secrets': async () => (await secrets.list()).filter(({ tenant }) => snapshot().tenants.has(tenant)),
  'POST /secrets': async (request) => {
    const { tenant, name, value } = parse(secretSchema, request.body)
    check.configuredTenant(tenant)
    const version = await secrets.write(tenant, name, new Secret(value))
    secretChanged({ tenant, backend: EMBEDDED_BACKEND, secret: name })
    await request.record({ event: 'secret.set', tenant, detail: { secret: name, version } })
    return { tenant, name, version }
  },
  'POST /secrets/remove': async (request) => {
    const { tenant, name } = parse(secretNameSchema, request.body)
    await check.secret(tenant, name)
    const removed = await secrets.remove(tenant, name)
    await request.record({ event: 'secret.remove', tenant, detail: { secret: name, versions: removed } })
    return { tenant, name, removed }
  },
})
