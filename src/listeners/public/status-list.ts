import type { Request, RequestHandler, Response } from 'express'
import { asDeputyError } from '#errors'
import type { StatusLists } from '#flows/exchange'
import { sendError } from '#listeners/http'

/** `GET /status/<list>` (draft-ietf-oauth-status-list, section 8.1); anybody may read it, from any origin. */
export const statusEndpoint = (lists: StatusLists, correlationId: () => string): RequestHandler => {
  const answer = async (request: Request, response: Response): Promise<void> => {
    try {
      const { token, maxAge } = await lists.read(String(request.params['list']))
      response.setHeader('content-type', 'application/statuslist+jwt')
      response.setHeader('cache-control', `max-age=${maxAge}`)
      response.setHeader('access-control-allow-origin', '*')
      response.end(token)
    } catch (thrown) {
      sendError(response, asDeputyError(thrown), correlationId())
    }
  }
  return (request, response, next) => {
    answer(request, response).catch(next)
  }
}
