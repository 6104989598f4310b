import { z } from 'zod'
import { Secret } from '#foundation/crypto'
import type { DynamicSecrets } from '../backend.ts'
import { engineRefusal, readVault } from './client.ts'
import { createVaultLeases, type EngineOptions } from './lease.ts'

const SECOND_MS = 1000

const loginSchema = z.object({ username: z.string().min(1), password: z.string().min(1) })
const staticSchema = z.object({ data: loginSchema.extend({ ttl: z.number().nonnegative() }) })

/** As every login in a secret is written: JSON with user name and password. */
const textOf = ({ username, password }: z.output<typeof loginSchema>): Secret =>
  new Secret(JSON.stringify({ username, password }))

/**
 * Logins of Vault's database engine (https://developer.hashicorp.com/vault/api-docs/secret/databases): made for each lease, or of
 * static roles, whose password Vault changes.
 */
export const createVaultDatabase = (options: EngineOptions): DynamicSecrets => {
  const { id, mount, session } = options
  const { make, ...leases } = createVaultLeases(options)
  return {
    ...leases,
    make: (role) => make(`${mount}/creds/${role}`, loginSchema.transform(textOf)),
    async readStatic(role) {
      const { data } = readVault(
        id,
        await session.ask({ method: 'GET', path: `${mount}/static-creds/${role}` }),
        staticSchema,
      )
      return { value: textOf(data), remaining: data.ttl * SECOND_MS }
    },
    async rotateStatic(role) {
      const answer = await session.ask({ method: 'POST', path: `${mount}/rotate-role/${role}`, body: {} })
      if (answer.status !== 200 && answer.status !== 204) throw engineRefusal(id, answer)
    },
  }
}
