import { IncomingMessage, type ServerResponse } from 'node:http'
import type { NextFunction, Request, RequestHandler, Response } from 'express'
import { asDeputyError } from '#errors'
import type { AuthorizationServer } from '#listeners/authorization-server'
import { isAuthorizationPath, parseForm, readBody, sendError } from '#listeners/http'
import { JWT_BEARER_GRANT } from './identity-assertion.ts'

type Handler = (request: IncomingMessage, response: ServerResponse) => void

/** Bytes. */
const MAX_BODY = 65_536

/** The request once more, for a handler that reads the body itself. */
const replayOf = (request: IncomingMessage, body: Buffer): IncomingMessage => {
  const { method, url, headers, rawHeaders, httpVersion, httpVersionMajor, httpVersionMinor } = request
  const replay = Object.assign(new IncomingMessage(request.socket), {
    method,
    url,
    headers,
    rawHeaders,
    httpVersion,
    httpVersionMajor,
    httpVersionMinor,
    complete: true,
  })
  replay.push(body)
  replay.push(null)
  return replay
}

/** A body that cannot be read as a form names no grant. */
const grantOf = (body: Buffer): string | undefined => {
  try {
    return parseForm(body).optional('grant_type')
  } catch {
    return undefined
  }
}

/**
 * The token endpoint on the public address: identity assertions go to Deputy's own line, everything else to the authorization
 * server where users sign in here.
 */
export const publicTokenEndpoint = (deps: {
  readonly assertions: Handler
  readonly authorizationServer: () => Promise<AuthorizationServer> | undefined
  readonly correlationId: () => string
}): Handler => {
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const authorizationServer = deps.authorizationServer()
    if (authorizationServer === undefined) {
      deps.assertions(request, response)
      return
    }
    const body = await readBody(request, MAX_BODY)
    const replay = replayOf(request, body)
    if (grantOf(body) === JWT_BEARER_GRANT) deps.assertions(replay, response)
    else await (await authorizationServer).handle(replay, response)
  }
  return (request, response) => {
    answer(request, response).catch((thrown: unknown) => {
      sendError(response, asDeputyError(thrown), deps.correlationId())
    })
  }
}

/** The other endpoints of the authorization server, where users sign in here. */
export const authorizationEndpoints = (
  authorizationServer: () => Promise<AuthorizationServer> | undefined,
): RequestHandler => {
  const answer = async (request: Request, response: Response, next: NextFunction): Promise<void> => {
    const active = isAuthorizationPath(request.path) ? authorizationServer() : undefined
    if (active === undefined) next()
    else await (await active).handle(request, response)
  }
  return answer
}
