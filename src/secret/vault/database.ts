import { z } from 'zod'
import { Secret } from '../../crypto/secret.ts'
import { refuse } from '../../errors.ts'
import type { DynamicSecrets } from '../backend.ts'
import { readVault, vaultWords } from './client.ts'
import type { VaultSession } from './session.ts'

const SECOND = 1000

const loginSchema = z.object({ username: z.string().min(1), password: z.string().min(1) })
const madeSchema = z.object({ lease_id: z.string().min(1), lease_duration: z.number().positive(), renewable: z.boolean(), data: loginSchema })
const renewedSchema = z.object({ lease_duration: z.number().nonnegative() })
const staticSchema = z.object({ data: loginSchema.extend({ ttl: z.number().nonnegative() }) })

/** As every login in a secret is written: JSON with user name and password. */
const textOf = ({ username, password }: z.output<typeof loginSchema>): Secret => new Secret(JSON.stringify({ username, password }))

/**
 * Logins of Vault's database engine (https://developer.hashicorp.com/vault/api-docs/secret/databases): made for each lease, or of
 * static roles, whose password Vault changes. An increment counts from now and is advisory, so what counts is the answer
 * (https://developer.hashicorp.com/vault/api-docs/system/leases).
 */
export const createVaultDatabase = (options: { id: string; mount: string; session: VaultSession }): DynamicSecrets => {
  const { id, mount, session } = options
  return {
    async make(role) {
      const made = readVault(id, await session.ask({ method: 'GET', path: `${mount}/creds/${role}` }), madeSchema)
      return { value: textOf(made.data), lease: made.lease_id, duration: made.lease_duration * SECOND, renewable: made.renewable }
    },
    async renew(lease, duration) {
      const answer = await session.ask({ method: 'POST', path: 'sys/leases/renew', body: { lease_id: lease, increment: Math.ceil(duration / SECOND) } })
      if (answer.status === 400 && /lease not found|lease expired|not renewable/.test(vaultWords(answer))) return undefined
      return readVault(id, answer, renewedSchema).lease_duration * SECOND
    },
    async end(lease) {
      // Without `sync` Vault only promises to do it.
      const answer = await session.ask({ method: 'POST', path: 'sys/leases/revoke', body: { lease_id: lease, sync: true } })
      if (answer.status !== 200 && answer.status !== 204) throw refuse('secret_backend_refused', { backend: id, problem: vaultWords(answer) })
    },
    async readStatic(role) {
      const { data } = readVault(id, await session.ask({ method: 'GET', path: `${mount}/static-creds/${role}` }), staticSchema)
      return { value: textOf(data), remaining: data.ttl * SECOND }
    },
    async rotateStatic(role) {
      const answer = await session.ask({ method: 'POST', path: `${mount}/rotate-role/${role}`, body: {} })
      if (answer.status !== 200 && answer.status !== 204) throw refuse('secret_backend_refused', { backend: id, problem: vaultWords(answer) })
    },
  }
}
