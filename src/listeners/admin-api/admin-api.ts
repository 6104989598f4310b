import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { RequestListener } from 'node:http'
import express, { type ErrorRequestHandler, type Request, type Response } from 'express'
import { asDeputyError, forAdmins, refuse } from '#errors'
import { createNamedCheck } from '#flows/revocation'
import { sendError, withCheckedHead } from '#listeners/http'
import { auditEndpoints } from './audit.ts'
import { backupEndpoints } from './backup.ts'
import { clientEndpoints } from './clients.ts'
import { daemonEndpoints } from './daemon.ts'
import type { AdminDependencies } from './dependencies.ts'
import {
  type AdminEndpoints,
  type AdminHandler,
  type AdminRequest,
  LinesAnswer,
  type OrderRecord,
  unconfirmedAs,
} from './endpoint.ts'
import { grantEndpoints } from './grants.ts'
import { lastingOrderEndpoints } from './lasting-orders.ts'
import { registryEndpoints } from './registry.ts'
import { revocationEndpoints } from './revocations.ts'
import { rotationEndpoints } from './rotations.ts'
import { secretEndpoints } from './secrets.ts'

const MAX_BODY_BYTES = 131_072

const adminEndpoints = (deps: AdminDependencies): AdminEndpoints => {
  const context = { ...deps, check: createNamedCheck(deps) }
  return {
    ...daemonEndpoints(context),
    ...registryEndpoints(context),
    ...grantEndpoints(context),
    ...clientEndpoints(context),
    ...revocationEndpoints(context),
    ...lastingOrderEndpoints(context),
    ...secretEndpoints(context),
    ...rotationEndpoints(context),
    ...auditEndpoints(context),
    ...backupEndpoints(context),
  }
}

const adminRequest = (deps: AdminDependencies, request: Request, correlationId: string): AdminRequest => {
  const append = ({ detail, ...entry }: OrderRecord): Promise<void> =>
    deps.audit.append({ id: correlationId, outcome: 'done', ...entry, detail: { by: deps.by(request), ...detail } })
  return {
    body: request.body as unknown,
    query: request.query,
    correlationId,
    by: () => deps.by(request),
    record: (entry) => append(entry).catch(unconfirmedAs('order_unrecorded')),
    recordFirst: (entry) => append(entry).catch(unconfirmedAs('order_not_begun')),
  }
}

/** Errors of express's own body parser carry a `type`. */
const isBodyError = (thrown: unknown): boolean => thrown instanceof Error && 'type' in thrown && 'status' in thrown

/** Answers a refusal, with what an administrator may know of it. */
const errorHandler =
  (deps: AdminDependencies): ErrorRequestHandler =>
  (thrown: unknown, _request, response, _next) => {
    const correlationId = String(response.locals['correlationId'] ?? deps.correlationId())
    const error = isBodyError(thrown)
      ? refuse('malformed_request', { problem: 'the body is not JSON of at most 128 KiB' })
      : asDeputyError(thrown)
    if (error.code === 'internal')
      deps.logger.error({ err: error.cause, correlation_id: correlationId }, 'an admin request failed inside Deputy')
    sendError(response, error, correlationId, forAdmins(error))
  }

/**
 * The admin API, on a socket that only the daemon's own user can open. It reads and ends things and sets secrets; it
 * changes no file, so that policy, registry and audit sinks are what the files say (threat 26).
 */
export const createAdminApi = (deps: AdminDependencies): RequestListener => {
  const app = express()
  app.disable('x-powered-by')
  app.use(express.json({ limit: MAX_BODY_BYTES }))
  const answer =
    (handle: AdminHandler) =>
    async (request: Request, response: Response): Promise<void> => {
      const correlationId = deps.correlationId()
      response.locals['correlationId'] = correlationId
      const answered = await handle(adminRequest(deps, request, correlationId))
      if (!(answered instanceof LinesAnswer)) {
        response.json(answered)
        return
      }
      response.type('application/x-ndjson')
      // A reader that is slow is waited for, and one that goes away ends the reading.
      await pipeline(Readable.from(answered.chunks), response).catch((error: unknown) => {
        deps.logger.warn({ err: error, correlation_id: correlationId }, 'an answer of the admin API was cut off')
      })
    }
  for (const [route, handle] of Object.entries(adminEndpoints(deps))) {
    const [method, path = ''] = route.split(' ')
    if (method === 'GET') app.get(path, answer(handle))
    else app.post(path, answer(handle))
  }
  app.use((request: Request) => {
    throw refuse('not_found', { path: request.path.slice(0, 200) })
  })
  app.use(errorHandler(deps))
  return withCheckedHead(app, deps.correlationId)
}
