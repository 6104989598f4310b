/** What Vault says of a token's life: https://developer.hashicorp.com/vault/api-docs/auth/token */
import { z } from 'zod'
import type { Secret } from '#foundation/crypto'
import { rawWords, readVault, type SendToVault, type VaultAnswer } from './client.ts'

const renewedSchema = z.object({ auth: z.object({ lease_duration: z.number().nonnegative(), renewable: z.boolean() }) })

/** A policy denied the request, and so knew the token. A token that has ended, or was revoked, is refused before any policy is asked. */
const isDeniedByPolicy = (answer: VaultAnswer): boolean => /1 error occurred/.test(rawWords(answer))

/** Whether a token has ended. Only the token's lookup of itself decides: another path may be denied. @throws DeputyError `secret_backend_unavailable` */
export const isTokenDead = async (send: SendToVault, token: Secret): Promise<boolean> => {
  const answer = await send({ method: 'GET', path: 'auth/token/lookup-self' }, token)
  return answer.status === 403 && !isDeniedByPolicy(answer)
}

/** The outcome of a renewal: for how long (ms), `dead` where the token has ended, `denied` where its policies do not let it be renewed. */
export type Renewal = { readonly duration: number; readonly renewable: boolean } | 'dead' | 'denied'

/**
 * Renews a token. At its longest life Vault gives less than the token had at first, and in the end answers 500.
 * @throws DeputyError `secret_backend_unavailable`, `secret_backend_refused`
 */
export const renewToken = async (id: string, send: SendToVault, token: Secret): Promise<Renewal> => {
  const answer = await send({ method: 'POST', path: 'auth/token/renew-self', body: {}, once: true }, token)
  if (answer.status === 403) return isDeniedByPolicy(answer) ? 'denied' : 'dead'
  const { auth } = readVault(id, answer, renewedSchema)
  return { duration: auth.lease_duration * 1000, renewable: auth.renewable }
}

/** Ends a token, and every lease under it. @throws DeputyError `secret_backend_unavailable` */
export const revokeToken = async (send: SendToVault, token: Secret, timeout: number): Promise<void> => {
  await send({ method: 'POST', path: 'auth/token/revoke-self', body: {}, once: true, timeout }, token)
}

/** Growing pauses between tries (ms). @param attempt counted from 1 */
export const pauseAfter = (attempt: number): number => Math.min(60_000, 500 * 2 ** (attempt - 1))
