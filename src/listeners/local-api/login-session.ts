import type { IncomingMessage } from 'node:http'
import type { DeviceLoginState } from '#flows/connect'
import { sendJson } from '#listeners/http'
import { type Endpoint, formOf, type LocalApiDependencies, unixPeerOf } from './endpoint.ts'

type Dependencies = Pick<LocalApiDependencies, 'login' | 'snapshot' | 'peer'>

/** A login session belongs to a Unix user. @throws DeputyError `malformed_request` over TCP */
const uidOf = async (request: IncomingMessage, deps: Pick<Dependencies, 'peer'>): Promise<number> =>
  (await unixPeerOf(request, deps, 'login sessions')).uid

/** How a sign-in with a code goes, for the program that waits for it. */
const deviceOf = (login: DeviceLoginState | undefined): object => {
  if (login === undefined) return {}
  if (login.state !== 'refused') return { device: { state: login.state } }
  const { code, message, next } = login.refusal
  return { device: { state: 'refused', error: { code, message, next } } }
}

/** `/session`: the sign-in of the Unix user who calls. POST starts it, GET shows it, DELETE ends it. */
export const loginSessionEndpoints = (deps: Dependencies): { POST: Endpoint; GET: Endpoint; DELETE: Endpoint } => ({
  POST: async (request, response) => {
    const form = await formOf(request, deps)
    const uid = await uidOf(request, deps)
    const wish = { tenant: form.required('tenant'), uid }
    const isDevice = form.optional('device') === 'true'
    sendJson(response, 200, await (isDevice ? deps.login.startDevice(wish) : deps.login.start(wish)))
  },
  GET: async (request, response) => {
    const uid = await uidOf(request, deps)
    const session = await deps.login.find(uid)
    const device = deviceOf(deps.login.device(uid))
    sendJson(
      response,
      200,
      session === undefined
        ? { signed_in: false, ...device }
        : { signed_in: true, tenant: session.tenant, user: session.user, expires_at: session.expiresAt, ...device },
    )
  },
  DELETE: async (request, response) => {
    await deps.login.end(await uidOf(request, deps))
    sendJson(response, 200, { signed_in: false })
  },
})
