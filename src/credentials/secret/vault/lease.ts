import { z } from 'zod'
import type { Clock } from '#clock'
import type { Secret } from '#foundation/crypto'
import type { LeaseSource, MadeSecret } from '../backend.ts'
import { engineRefusal, readVault, vaultWords } from './client.ts'
import type { VaultSession } from './session.ts'

const SECOND_MS = 1000

const leasedSchema = z.object({
  lease_id: z.string().min(1),
  lease_duration: z.number().positive(),
  renewable: z.boolean(),
})
const renewedSchema = z.object({ lease_duration: z.number().nonnegative() })

/** What the engines of a Vault are made of. */
export interface EngineOptions {
  readonly id: string
  readonly mount: string
  readonly session: VaultSession
  readonly clock: Clock
  /** ms that an engine may take to make a credential: databases and clouds take longer than Vault itself. */
  readonly making: number
}

/** Of what was given for so long when it was asked for, this is surely left; an engine that takes most of the time counts it from its own end. */
export const surelyLeft = (duration: number, elapsed: number): number => Math.max(duration - elapsed, duration / 2)

/**
 * What every engine has in common: an answer with a lease, which is renewed and revoked by its id, and ends with the token that
 * asked for it. An increment counts from now and is advisory, so what counts is the answer
 * (https://developer.hashicorp.com/vault/api-docs/system/leases).
 */
export const createVaultLeases = ({
  id,
  session,
  clock,
  making,
}: EngineOptions): LeaseSource & {
  /** Has a credential made. @param path segments are encoded already. @param textOf the credential as it is handed out, out of the answer's `data` */
  make(path: string, textOf: z.ZodType<Secret>): Promise<MadeSecret>
} => {
  const end = async (lease: string): Promise<void> => {
    // Without `sync` Vault only promises to do it.
    const answer = await session.ask({
      method: 'POST',
      path: 'sys/leases/revoke',
      body: { lease_id: lease, sync: true },
      timeout: making,
      once: true,
    })
    if (answer.status !== 200 && answer.status !== 204) throw engineRefusal(id, answer)
  }
  return {
    hasParents: true,
    async make(path, textOf) {
      const began = clock.now()
      const { answer, parent } = await session.askForLease({ method: 'GET', path, timeout: making, once: true })
      if (answer.status >= 400) throw engineRefusal(id, answer)
      const made = readVault(id, answer, leasedSchema)
      try {
        return {
          value: readVault(id, answer, z.object({ data: textOf })).data,
          lease: made.lease_id,
          duration: surelyLeft(made.lease_duration * SECOND_MS, clock.now() - began),
          renewable: made.renewable,
          parent,
        }
      } catch (error) {
        // No caller can use it, and no other record of it would end it.
        await end(made.lease_id).catch(() => undefined)
        throw error
      }
    },
    async renew(lease, duration, parent) {
      const began = clock.now()
      const answer = await session.ask({
        method: 'POST',
        path: 'sys/leases/renew',
        body: { lease_id: lease, increment: Math.ceil(duration / SECOND_MS) },
        once: true,
      })
      if (answer.status === 400 && /lease not found|lease expired|not renewable/.test(vaultWords(answer)))
        return undefined
      if (answer.status >= 400) throw engineRefusal(id, answer)
      const given = readVault(id, answer, renewedSchema).lease_duration * SECOND_MS
      const parentEnd = parent === null ? Infinity : await session.endOf(parent)
      return {
        duration: Math.max(0, Math.min(began + given, parentEnd) - clock.now()),
        isLast: given + SECOND_MS < duration,
      }
    },
    end,
  }
}
