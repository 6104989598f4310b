import { IncomingMessage, type ServerResponse } from 'node:http'
import type { NextFunction, Request, RequestHandler, Response } from 'express'
import type { CurrentSnapshot } from '#config'
import type { AuthorizationServer } from '#listeners/authorization-server'
import { type Form, isAuthorizationPath, parseForm, paths, readBody } from '#listeners/http'
import { isAgentRequest } from './agent-token.ts'
import { JWT_BEARER_GRANT } from './identity-assertion.ts'
import { type AnswerFailure, MAX_TOKEN_REQUEST } from './own-tokens.ts'

type Handler = (request: IncomingMessage, response: ServerResponse) => void

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
const formIn = (body: Buffer): Form | undefined => {
  try {
    const form = parseForm(body)
    form.optional('grant_type')
    form.optional('assertion')
    return form
  } catch {
    return undefined
  }
}

/**
 * The token endpoint on the public address: identity assertions and agents go to Deputy's own lines, everything else to the
 * authorization server where users sign in here.
 */
export const publicTokenEndpoint = (deps: {
  readonly assertions: Handler
  readonly agents: Handler
  readonly snapshot: CurrentSnapshot
  readonly authorizationServer: () => Promise<AuthorizationServer> | undefined
  readonly fail: AnswerFailure
}): Handler => {
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const body = await readBody(request, MAX_TOKEN_REQUEST)
    const replay = replayOf(request, body)
    const form = formIn(body)
    const authorizationServer = deps.authorizationServer()
    if (isAgentRequest(form, deps.snapshot())) deps.agents(replay, response)
    else if (authorizationServer === undefined || form?.optional('grant_type') === JWT_BEARER_GRANT)
      deps.assertions(replay, response)
    else await (await authorizationServer).handle(replay, response)
  }
  return (request, response) => {
    answer(request, response).catch((thrown: unknown) => {
      deps.fail(response, thrown)
    })
  }
}

/** The other endpoints of the authorization server, where users sign in here. */
export const authorizationEndpoints = (
  authorizationServer: () => Promise<AuthorizationServer> | undefined,
  fail: AnswerFailure,
): RequestHandler => {
  const answer = async (request: Request, response: Response, next: NextFunction): Promise<void> => {
    // The library answers preflights of browser-based clients.
    const isPreflight = request.method === 'OPTIONS' && request.path === paths.token
    const active = isPreflight || isAuthorizationPath(request.path) ? authorizationServer() : undefined
    try {
      if (active === undefined) next()
      else await (await active).handle(request, response)
    } catch (thrown) {
      fail(response, thrown)
    }
  }
  return answer
}
