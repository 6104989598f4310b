import express, { type Express, type Request, type Response } from 'express'
import { refuse } from '#errors'
import { type ConnectFlow, type FormFields, onwardPage, type StepAnswer } from '#flows/connect'
import type { AuthorizationServer } from '#listeners/authorization-server'

export interface ClientPagesDependencies {
  readonly flow: Pick<ConnectFlow, 'beginClient' | 'clientConsented' | 'clientDecided'>
  /** Undefined where no server has `sign_in: deputy`. */
  readonly authorizationServer: () => Promise<AuthorizationServer> | undefined
  readonly browser: {
    read(request: Request): string | undefined
    greet(request: Request, response: Response): string
  }
  readonly send: (response: Response, answer: StepAnswer) => void
  readonly urlOf: (request: Request) => URL
}

/** The longest e-mail address (RFC 5321 section 4.5.3.1.3). */
const MAX_EMAIL_LENGTH = 254

const emailIn = (body: unknown): string | undefined => {
  const { email } = (body ?? {}) as FormFields
  return typeof email === 'string' && email.length <= MAX_EMAIL_LENGTH ? email.trim() : undefined
}

/** The pages between a client's authorization request and its answer: they lie under the path of the interaction's cookie. */
export const addClientPages = (app: Express, deps: ClientPagesDependencies): void => {
  const { flow, browser, send, urlOf } = deps
  const active = async (): Promise<AuthorizationServer> => {
    const authorizationServer = await deps.authorizationServer()
    if (authorizationServer === undefined) throw refuse('connect_invalid', { problem: 'there is no such page' })
    return authorizationServer
  }
  const begin = async (request: Request, response: Response): Promise<void> => {
    const waiting = await (await active()).waiting(request, response)
    const parameters = urlOf(request).searchParams
    const from = {
      browser: () => browser.greet(request, response),
      tenant: parameters.get('tenant') ?? undefined,
      email: emailIn(request.body),
      isOtherAccount: parameters.get('account') === 'other',
    }
    const answer = await flow.beginClient(waiting, from)
    // The request is the answer to a form: of this page, or of the page for devices.
    const isForm = request.method === 'POST' || waiting.redirectUri === undefined
    send(response, 'redirect' in answer && isForm ? { page: onwardPage(answer.redirect) } : answer)
  }
  const consent = async (request: Request, response: Response): Promise<void> => {
    send(response, await flow.clientConsented(request.body as FormFields, browser.read(request)))
  }
  const onward = async (request: Request, response: Response): Promise<void> => {
    const authorizationServer = await active()
    const value = urlOf(request).searchParams.get('decision') ?? ''
    await authorizationServer.finish(request, response, await flow.clientDecided(value, browser.read(request)))
  }
  const form = express.urlencoded({ extended: false, limit: 16_384, parameterLimit: 20 })
  app.get('/sign-in/:interaction', begin)
  // The address is sent in the body, so that it stands in no history and no log.
  app.post('/sign-in/:interaction', form, begin)
  app.post('/sign-in/:interaction/consent', form, consent)
  app.get('/sign-in/:interaction/continue', onward)
}
