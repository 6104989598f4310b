import { sendJson } from '#listeners/http'
import type { Endpoint, LocalApiDependencies } from './endpoint.ts'

/** Callers of the local API learn only the state of a check that is for admins. */
const withoutDetails = (checks: Readonly<Record<string, string>>): Record<string, string> =>
  Object.fromEntries(
    Object.entries(checks).map(([name, state]) => [
      name,
      state === 'ok' ? state : 'not ok; deputy status shows the problem to an administrator',
    ]),
  )

/** `GET /healthz`: the process answers. */
export const healthEndpoint: Endpoint = (_request, response) => {
  sendJson(response, 200, { status: 'ok' })
}

/** `GET /readyz`: 200 when the daemon can issue credentials, 503 otherwise. */
export const readyEndpoint =
  ({ readiness }: Pick<LocalApiDependencies, 'readiness'>): Endpoint =>
  async (_request, response) => {
    const { ready, checks, backends } = await readiness()
    sendJson(response, ready ? 200 : 503, { ready, checks: { ...withoutDetails(backends), ...checks } })
  }
