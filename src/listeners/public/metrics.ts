import type { IncomingMessage, RequestListener } from 'node:http'
import { asDeputyError, refuse } from '#errors'
import { assertSingleHeaders, requestTargetOf, sendError } from '#listeners/http'

/** `GET /metrics` in the Prometheus text format. */
export const createMetricsEndpoint =
  (metrics: () => Promise<string>, guard: (request: IncomingMessage) => void): RequestListener =>
  (request, response) => {
    const answer = async (): Promise<void> => {
      guard(request)
      assertSingleHeaders(request)
      const { target } = requestTargetOf(request)
      if (request.method !== 'GET' || target !== '/metrics') throw refuse('not_found', { path: target.slice(0, 100) })
      const text = await metrics()
      response.writeHead(200, { 'Content-Type': 'text/plain; version=0.0.4; charset=utf-8' })
      response.end(text)
    }
    answer().catch((thrown: unknown) => {
      sendError(response, asDeputyError(thrown), '-')
    })
  }
