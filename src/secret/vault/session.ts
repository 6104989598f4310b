import { readFile } from 'node:fs/promises'
import { z } from 'zod'
import type { VaultLogin } from '../../config/secret-backends.ts'
import type { LocalReference } from '../../config/values.ts'
import { Secret } from '../../crypto/secret.ts'
import { DeputyError, refuse } from '../../errors.ts'
import type { Logger } from '../../observe/logger.ts'
import { readVault, vaultWords, type SendToVault, type VaultAnswer, type VaultRequest } from './client.ts'
import { unwrap } from './wrapping.ts'

const authSchema = z.object({
  auth: z.object({ client_token: z.string().min(1), lease_duration: z.number().nonnegative(), renewable: z.boolean() }),
})
const lookupSchema = z.object({ data: z.object({ ttl: z.number().nonnegative(), renewable: z.boolean() }) })
const renewedSchema = z.object({ auth: z.object({ lease_duration: z.number().nonnegative(), renewable: z.boolean() }) })
const secretIdSchema = z.object({ data: z.object({ secret_id: z.string().min(1) }) })

interface Held {
  readonly token: Secret
  readonly since: number
  readonly until: number
}

/** Renewed when this part of its life is over. */
const RENEWED_AFTER = 2 / 3
/** Sooner than this there is no renewal (ms): Vault could be handing out lives of a second. */
const SHORTEST = 1000
/** A token that is younger (ms) is not the reason for which something is forbidden: there is no storm of logins. */
const TRUSTED = 5000
/** The longest wait that a timer takes (ms). */
const LONGEST = 2 ** 31 - 1

/** Requests to Vault as the one that the settings say Deputy is. */
export interface VaultSession {
  /** @throws DeputyError `secret_backend_unavailable`, `secret_backend_refused` (the login), `wrapping_violated` */
  ask(request: VaultRequest): Promise<VaultAnswer>
  close(): Promise<void>
}

/**
 * Logs in when a token is needed, renews it before it ends, and logs in anew when it cannot be renewed or is refused
 * (https://developer.hashicorp.com/vault/docs/concepts/tokens). Requests share one login.
 */
export const createVaultSession = (options: {
  id: string
  login: VaultLogin
  send: SendToVault
  readSecret: (reference: LocalReference) => Promise<Secret>
  /** ms, never going back. */
  monotonic: () => number
  logger: Logger
  /** Told of a wrapping token that somebody has tampered with. */
  violated?: (error: DeputyError) => Promise<void>
}): VaultSession => {
  const { id, login, send, logger } = options
  let held: Promise<Held> | undefined
  let timer: NodeJS.Timeout | undefined
  let closed = false
  /** What was in a wrapping token can be had once: it is kept for the logins that follow. */
  let unwrapped: Secret | undefined

  const text = async (given: string | LocalReference): Promise<string> =>
    typeof given === 'string' ? given : (await options.readSecret(given)).reveal()
  const fileText = async (path: string): Promise<string> => {
    try {
      return (await readFile(path, 'utf8')).trim()
    } catch (error) {
      throw refuse('secret_backend_refused', { backend: id, problem: `the token file ${path} cannot be read` }, error)
    }
  }

  const loginAt = async (mount: string, body: object): Promise<Held> => {
    const answer = await send({ method: 'POST', path: `auth/${mount}/login`, body }, undefined)
    if (answer.status !== 200)
      throw refuse('secret_backend_refused', {
        backend: id,
        problem: `the login at auth/${mount}: ${vaultWords(answer)}`,
      })
    const { auth } = readVault(id, answer, authSchema)
    return heldFor(new Secret(auth.client_token), auth.lease_duration, auth.renewable)
  }

  const secretIdOf = async (approle: Extract<VaultLogin, { approle: object }>['approle']): Promise<string> => {
    if (!approle.wrapped) return text(approle.secret_id)
    try {
      unwrapped ??= new Secret(
        (
          await unwrap({
            id,
            send,
            token: await options.readSecret(approle.secret_id),
            expectedPath: `auth/${approle.mount}/role/${approle.role}/secret-id`,
            schema: secretIdSchema,
          })
        ).data.secret_id,
      )
    } catch (error) {
      if (error instanceof DeputyError && error.code === 'wrapping_violated') await options.violated?.(error)
      throw error
    }
    return unwrapped.reveal()
  }

  const logIn = async (): Promise<Held> => {
    if ('approle' in login)
      return loginAt(login.approle.mount, {
        role_id: await text(login.approle.role_id),
        secret_id: await secretIdOf(login.approle),
      })
    if ('kubernetes' in login)
      return loginAt(login.kubernetes.mount, {
        role: login.kubernetes.role,
        jwt: await fileText(login.kubernetes.token),
      })
    if ('jwt' in login) return loginAt(login.jwt.mount, { role: login.jwt.role, jwt: await fileText(login.jwt.token) })
    const token = await options.readSecret(login.token)
    const { data } = readVault(id, await send({ method: 'GET', path: 'auth/token/lookup-self' }, token), lookupSchema)
    return heldFor(token, data.ttl, data.renewable)
  }

  /** @param seconds 0: it does not end */
  const heldFor = (token: Secret, seconds: number, renewable: boolean): Held => {
    clearTimeout(timer)
    if (!closed && renewable && seconds > 0) {
      timer = setTimeout(
        () => {
          void renew()
        },
        Math.min(LONGEST, Math.max(SHORTEST, seconds * 1000 * RENEWED_AFTER)),
      )
      timer.unref()
    }
    const since = options.monotonic()
    return { token, since, until: seconds === 0 ? Infinity : since + seconds * 1000 }
  }

  const current = (): Promise<Held> => {
    if (held !== undefined) return held
    const pending = logIn()
    held = pending
    // A login that failed is not remembered.
    pending.catch(() => {
      if (held === pending) held = undefined
    })
    return pending
  }

  const renew = async (): Promise<void> => {
    const before = held
    const now = await before?.catch(() => undefined)
    if (now === undefined || before !== held || closed) return
    try {
      const { auth } = readVault(
        id,
        await send({ method: 'POST', path: 'auth/token/renew-self', body: {} }, now.token),
        renewedSchema,
      )
      if (before === held) held = Promise.resolve(heldFor(now.token, auth.lease_duration, auth.renewable))
    } catch (error) {
      logger.warn(
        { backend: id, problem: (error as Error).message },
        'a token of Vault could not be renewed; the next request logs in anew',
      )
      // Where Vault is merely away the token goes on being used until it ends.
      if (before === held && error instanceof DeputyError && error.code === 'secret_backend_refused') held = undefined
    }
  }

  /** A token that has ended, or is refused, is not the one that is in use any more. */
  const drop = (which: Promise<Held>): void => {
    if (held === which) {
      held = undefined
      clearTimeout(timer)
    }
  }

  return {
    async ask(request) {
      let using = current()
      if ((await using).until <= options.monotonic()) {
        drop(using)
        using = current()
      }
      const answer = await send(request, (await using).token)
      if (answer.status !== 403 || options.monotonic() - (await using).since < TRUSTED) return answer
      // Either the token was revoked or it may not do this: a new one tells which.
      drop(using)
      return send(request, (await current()).token)
    },
    close() {
      closed = true
      clearTimeout(timer)
      return Promise.resolve()
    },
  }
}
