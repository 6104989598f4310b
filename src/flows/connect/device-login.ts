import * as openid from 'openid-client'
import type { Clock } from '#clock'
import { type CurrentSnapshot, signInIssuer, type Tenant } from '#config'
import { type IdentityProviders, refusalOfIssuer } from '#credentials/provider'
import { asDeputyError, type DeputyError, refuse } from '#errors'
import { createLru } from '#foundation/lru'
import type { WatchClaims } from '#identity/subject'
import { createLoginLimit } from './login-limit.ts'
import { beginLoginSession, type LoginSessionDependencies } from './login-session.ts'
import { assertMaySignIn, tenantInForce } from './parties.ts'
import { refusalOfSignIn, signedInBy } from './sign-in.ts'

/** Deputy asks for this long at most, however long the code lasts (s). */
const MAX_LIFE_S = 900

/** What the Unix user is shown: the address of the identity provider, and the code to type there. Times are s. */
export interface DeviceLogin {
  readonly user_code: string
  readonly verification_uri: string
  readonly verification_uri_complete?: string
  readonly expires_in: number
}

/** How the last sign-in with a code of a Unix user goes. */
export type DeviceLoginState =
  | { readonly state: 'pending' }
  | { readonly state: 'done' }
  | { readonly state: 'refused'; readonly refusal: DeputyError }

export interface DeviceLogins {
  /**
   * Begins the device grant (RFC 8628) at the tenant's identity provider for the Unix user. One that the user began
   * before ends.
   * @throws DeputyError `connect_invalid` where the tenant's file does not allow it, `issuer_unreachable` and others
   */
  start(request: { readonly tenant: string; readonly uid: number }): Promise<DeviceLogin>
  /** Undefined where the Unix user has begun none since the daemon started. */
  state(uid: number): DeviceLoginState | undefined
  /** Ends what the Unix user has begun. */
  end(uid: number): void
  /** Ends all that is under way. */
  close(): void
}

interface Dependencies extends LoginSessionDependencies {
  readonly snapshot: CurrentSnapshot
  readonly identityProviders: IdentityProviders
  readonly watchClaims?: WatchClaims
  readonly clock: Clock
  readonly newId: () => string
}

interface Pending {
  readonly controller: AbortController
  state: DeviceLoginState
}

interface Begun {
  readonly tenant: string
  readonly uid: number
  readonly issuer: string
  readonly correlationId: string
}

/**
 * The tenant, where its file allows the sign-in with a code.
 * @throws DeputyError `connect_invalid`, `subject_tenant_unknown`
 */
const tenantWithDevice = ({ snapshot }: Pick<Dependencies, 'snapshot'>, id: string): Tenant => {
  const tenant = tenantInForce(snapshot(), id)
  if (tenant.sign_in?.device !== true)
    throw refuse('connect_invalid', {
      problem: `the file of the tenant ${id} does not have sign_in.device: true`,
    })
  return tenant
}

/** Waits for the person, and signs the Unix user in. @throws DeputyError */
const complete = async (
  deps: Dependencies,
  begun: Begun,
  configuration: openid.Configuration,
  { answer, signal }: { readonly answer: openid.DeviceAuthorizationResponse; readonly signal: AbortSignal },
): Promise<void> => {
  const tokens = await openid.pollDeviceAuthorizationGrant(configuration, answer, undefined, { signal })
  // The files and the administrator may have changed their mind while the person was away.
  const tenant = tenantWithDevice(deps, begun.tenant)
  if (signInIssuer(tenant, deps.snapshot().providers) !== begun.issuer)
    throw refuse('connect_invalid', { problem: "the tenant's identity provider was changed meanwhile" })
  const who = signedInBy(tokens, [tenant], begun.issuer, deps.watchClaims)
  assertMaySignIn(deps, begun.tenant, who.user)
  signal.throwIfAborted()
  await beginLoginSession(deps, begun, { ...who, signedInAt: deps.clock.now() }, { device: true })
}

/** Why it has ended, for the Unix user and for the log. */
const refusalOf = (issuer: string, error: unknown, signal: AbortSignal): DeputyError => {
  if (signal.aborted || (error instanceof openid.ResponseBodyError && error.error === 'expired_token'))
    return refuse('connect_invalid', { problem: 'the code has expired' }, error)
  if (error instanceof openid.ResponseBodyError && error.error === 'access_denied')
    return refuse('connect_denied', { problem: 'the sign-in was not completed' }, error)
  return refusalOfSignIn(issuer, error)
}

/**
 * `deputy login --device`: the identity provider's own device grant, for a machine whose user has no browser that
 * reaches Deputy's pages. No page of Deputy is between: the person sees the identity provider's. So an administrator
 * has to allow it for the tenant, and the session belongs to the Unix user that asked, as the kernel names it.
 */
export const createDeviceLogins = (deps: Dependencies): DeviceLogins => {
  const admitLogin = createLoginLimit()
  const logins = createLru<number, Pending>({ max: 10_000, dispose: ({ controller }) => controller.abort() })

  const refused = async ({ tenant, uid, issuer, correlationId: id }: Begun, refusal: DeputyError): Promise<void> => {
    const { code, message } = refusal
    const detail = { uid, issuer, device: true, error: { code, message } }
    await deps.audit.append({ id, event: 'login', outcome: 'refused', tenant, detail })
  }

  const follow = async (
    pending: Pending,
    begun: Begun,
    configuration: openid.Configuration,
    answer: openid.DeviceAuthorizationResponse,
  ): Promise<void> => {
    const seconds = Math.min(answer.expires_in, MAX_LIFE_S)
    const signal = AbortSignal.any([pending.controller.signal, AbortSignal.timeout(seconds * 1000)])
    try {
      await complete(deps, begun, configuration, { answer, signal })
      pending.state = { state: 'done' }
    } catch (error) {
      const refusal = asDeputyError(refusalOf(begun.issuer, error, signal))
      pending.state = { state: 'refused', refusal }
      // One that was begun anew or whose daemon stops has ended for no reason of the person's.
      if (!pending.controller.signal.aborted) await refused(begun, refusal)
    }
  }

  return {
    async start({ tenant: id, uid }) {
      const tenant = tenantWithDevice(deps, id)
      admitLogin(uid)
      const configuration = await deps.identityProviders(tenant)
      const { issuer, device_authorization_endpoint: endpoint } = configuration.serverMetadata()
      if (endpoint === undefined)
        throw refuse('connect_invalid', { problem: `the identity provider ${issuer} has no device grant` })
      const scope = (tenant.sign_in?.scopes ?? ['openid']).join(' ')
      const answer = await openid.initiateDeviceAuthorization(configuration, { scope }).catch((error: unknown) => {
        throw refusalOfIssuer(issuer, error)
      })
      const pending: Pending = { controller: new AbortController(), state: { state: 'pending' } }
      logins.set(uid, pending)
      const begun = { tenant: id, uid, issuer, correlationId: deps.newId() }
      follow(pending, begun, configuration, answer).catch((error: unknown) => {
        deps.logger.error({ err: error, uid, tenant: id }, 'a sign-in with a code could not be recorded')
      })
      return {
        user_code: answer.user_code,
        verification_uri: answer.verification_uri,
        ...(answer.verification_uri_complete === undefined
          ? {}
          : { verification_uri_complete: answer.verification_uri_complete }),
        expires_in: Math.min(answer.expires_in, MAX_LIFE_S),
      }
    },
    state: (uid) => logins.get(uid)?.state,
    end(uid) {
      logins.delete(uid)
    },
    close() {
      logins.clear()
    },
  }
}
