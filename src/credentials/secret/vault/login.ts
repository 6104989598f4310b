import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { z } from 'zod'
import type { LocalReference, VaultLogin } from '#config'
import { DeputyError, refuse } from '#errors'
import { Secret } from '#foundation/crypto'
import { readVault, vaultRefusal, type SendToVault } from './client.ts'
import { unwrap } from './wrapping.ts'

/** A token as the answer to a login, or to Vault's lookup of a given token, describes it. */
export interface VaultToken {
  readonly token: Secret
  /** Its public name; empty for a batch token. */
  readonly accessor: string
  /** Seconds of life from now; 0: it does not end. */
  readonly ttl: number
  readonly renewable: boolean
}

/** That Deputy is not let in says nothing about a secret: no copy is taken away for it. */
const NOT_LOGGED_IN = 401

const seconds = z.number().nonnegative()
const authSchema = z.object({
  auth: z.object({
    client_token: z.string().min(1),
    accessor: z.string().default(''),
    lease_duration: seconds,
    renewable: z.boolean(),
  }),
})
const lookupSchema = z.object({
  data: z.object({ ttl: seconds, renewable: z.boolean().default(false), accessor: z.string().default('') }),
})
/** `from`: fingerprint of the wrapping token that it was in. */
const storedIdSchema = z.object({ from: z.string(), secret_id: z.string().min(1) })
const secretIdSchema = z.object({ data: z.object({ secret_id: z.string().min(1) }) })

/** A secret of this installation, sealed in the store; `make` is called where there is none that `isGood`. */
export type OwnSecret = (
  name: string,
  make: () => Promise<Secret>,
  isGood: (stored: Secret) => boolean,
) => Promise<Secret>

/**
 * The logins that settings describe.
 * @returns what logs in anew each time. @throws DeputyError `secret_backend_unavailable`, `secret_backend_refused`, `wrapping_violated`
 */
export const createVaultLogin = (options: {
  readonly id: string
  readonly login: VaultLogin
  readonly send: SendToVault
  readonly readSecret: (reference: LocalReference) => Promise<Secret>
  readonly own?: OwnSecret
  /** Called with a wrapping token that was tampered with. */
  readonly violated?: (error: DeputyError) => Promise<void>
}): (() => Promise<VaultToken>) => {
  const { id, login, send } = options
  let opened: Secret | undefined

  const text = async (given: string | LocalReference): Promise<string> =>
    typeof given === 'string' ? given : (await options.readSecret(given)).reveal()
  const fileText = async (path: string): Promise<string> => {
    try {
      return (await readFile(path, 'utf8')).trim()
    } catch (error) {
      throw refuse(
        'secret_backend_refused',
        { backend: id, problem: `the token file ${path} cannot be read`, status: NOT_LOGGED_IN },
        error,
      )
    }
  }

  const loginAt = async (mount: string, body: object): Promise<VaultToken> => {
    const answer = await send({ method: 'POST', path: `auth/${mount}/login`, body }, undefined)
    if (answer.status !== 200)
      throw vaultRefusal(id, answer, { what: `the login at auth/${mount}`, status: NOT_LOGGED_IN })
    const { auth } = readVault(id, answer, authSchema)
    return {
      token: new Secret(auth.client_token),
      accessor: auth.accessor,
      ttl: auth.lease_duration,
      renewable: auth.renewable,
    }
  }

  const unwrapped = async (token: Secret, expectedPath: string): Promise<Secret> => {
    try {
      const { data } = await unwrap({ id, send, token, expectedPath, schema: secretIdSchema })
      return new Secret(data.secret_id)
    } catch (error) {
      if (error instanceof DeputyError && error.code === 'wrapping_violated') await options.violated?.(error)
      throw error
    }
  }
  /**
   * A wrapping token opens once: what was in it is kept, sealed, with the token's fingerprint, for later logins and
   * processes.
   */
  const secretIdOf = async (approle: Extract<VaultLogin, { approle: object }>['approle']): Promise<string> => {
    if (!approle.wrapped) return text(approle.secret_id)
    const token = await options.readSecret(approle.secret_id)
    const from = createHash('sha256').update('deputy wrapping token').update(token.reveal()).digest('hex')
    const isOfToken = (secret: Secret): boolean =>
      storedIdSchema.safeParse(JSON.parse(secret.reveal())).data?.from === from
    if (opened === undefined || !isOfToken(opened)) {
      const path = `auth/${approle.mount}/role/${approle.role}/secret-id`
      const make = async (): Promise<Secret> =>
        new Secret(JSON.stringify({ from, secret_id: (await unwrapped(token, path)).reveal() }))
      opened = options.own === undefined ? await make() : await options.own(`${id} secret id`, make, isOfToken)
    }
    return storedIdSchema.parse(JSON.parse(opened.reveal())).secret_id
  }

  return async () => {
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
    const answer = await send({ method: 'GET', path: 'auth/token/lookup-self' }, token)
    if (answer.status === 403)
      throw vaultRefusal(id, answer, { what: 'the token that the settings name', status: NOT_LOGGED_IN })
    const { data } = readVault(id, answer, lookupSchema)
    return { token, ...data }
  }
}
