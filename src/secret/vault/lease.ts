import { z } from 'zod'
import type { Secret } from '../../crypto/secret.ts'
import { refuse } from '../../errors.ts'
import type { LeaseSource, MadeSecret } from '../backend.ts'
import { readVault, vaultWords } from './client.ts'
import type { VaultSession } from './session.ts'

const SECOND = 1000

const leasedSchema = z.object({
  lease_id: z.string().min(1),
  lease_duration: z.number().positive(),
  renewable: z.boolean(),
})
const renewedSchema = z.object({ lease_duration: z.number().nonnegative() })

/**
 * What every engine has in common: an answer with a lease, which is renewed and revoked by its id. An increment counts from now and
 * is advisory, so what counts is the answer (https://developer.hashicorp.com/vault/api-docs/system/leases).
 */
export const createVaultLeases = ({
  id,
  session,
}: {
  id: string
  session: VaultSession
}): LeaseSource & {
  /** Has a credential made. @param path segments are encoded already. @param textOf the credential as it is handed out, out of the answer's `data` */
  make(path: string, textOf: z.ZodType<Secret>): Promise<MadeSecret>
} => {
  const end = async (lease: string): Promise<void> => {
    // Without `sync` Vault only promises to do it.
    const answer = await session.ask({
      method: 'POST',
      path: 'sys/leases/revoke',
      body: { lease_id: lease, sync: true },
    })
    if (answer.status !== 200 && answer.status !== 204)
      throw refuse('secret_backend_refused', { backend: id, problem: vaultWords(answer) })
  }
  return {
    async make(path, textOf) {
      const answer = await session.ask({ method: 'GET', path })
      const made = readVault(id, answer, leasedSchema)
      try {
        return {
          value: readVault(id, answer, z.object({ data: textOf })).data,
          lease: made.lease_id,
          duration: made.lease_duration * SECOND,
          renewable: made.renewable,
        }
      } catch (error) {
        // Nobody can use it, and nobody else would end it.
        await end(made.lease_id).catch(() => undefined)
        throw error
      }
    },
    async renew(lease, duration) {
      const answer = await session.ask({
        method: 'POST',
        path: 'sys/leases/renew',
        body: { lease_id: lease, increment: Math.ceil(duration / SECOND) },
      })
      if (answer.status === 400 && /lease not found|lease expired|not renewable/.test(vaultWords(answer)))
        return undefined
      return readVault(id, answer, renewedSchema).lease_duration * SECOND
    },
    end,
  }
}
