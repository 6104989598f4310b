import express, { type ErrorRequestHandler, type Express, type Request, type Response } from 'express'
import type { Random } from '#clock'
import { asDeputyError, type DeputyError, type ErrorCategory, refuse } from '#errors'
import { type ConnectFlow, errorPage, type FormFields, type StepAnswer, STYLE } from '#flows/connect'
import type { AuditLog } from '#foundation/audit'
import type { Secret } from '#foundation/crypto'
import type { Logger } from '#foundation/telemetry'
import { createBrowsers, pageHeaders } from '#listeners/http'
import { addClientPages, type ClientPagesDependencies } from './client-pages.ts'

export interface ConnectPagesDependencies {
  readonly flow: ConnectFlow
  /** Undefined where no server has `sign_in: deputy`. */
  readonly authorizationServer: ClientPagesDependencies['authorizationServer']
  /** Public URL of these pages. */
  readonly baseUrl: () => string
  readonly cookieKey: Secret
  readonly random: Random
  readonly newId: () => string
  /** Published for services that verify minted tokens. */
  readonly jwks: () => object
  readonly metadata: () => object
  /** For clouds that trust what Deputy signs. */
  readonly discovery: () => object
  readonly audit: AuditLog
  readonly logger: Logger
}

/** What is wrong with Deputy's own set-up: its words name files and commands, which are no business of a user. */
const OF_THE_ADMIN: ReadonlySet<ErrorCategory> = new Set(['config', 'secret', 'store', 'audit', 'internal'])

/** Forms lead here, and where the consent says. */
const protect = (response: Response, formTarget?: string): void => {
  response.set({ ...pageHeaders(formTarget), 'Cross-Origin-Opener-Policy': 'same-origin' })
}

/** An error of Express, of which only the user's request can be the cause, as one of the taxonomy. */
const refusalOf = (thrown: unknown): DeputyError => {
  const known = asDeputyError(thrown)
  if (thrown instanceof Error && 'type' in thrown && 'status' in thrown)
    return refuse('connect_invalid', { problem: 'the form is malformed' })
  return thrown instanceof URIError ? refuse('connect_invalid', { problem: 'its address is malformed' }) : known
}

/** What the user reads, and what the log and the audit record keep for the admin. */
const createErrorAnswer =
  ({ audit, logger }: Pick<ConnectPagesDependencies, 'audit' | 'logger'>) =>
  (response: Response, error: DeputyError, otherAccount?: string): void => {
    const id = String(response.locals['correlationId'])
    const isOfAdmin = OF_THE_ADMIN.has(error.kind.category)
    if (error.code === 'internal')
      logger.error({ err: error.cause, correlation_id: id }, 'a connect page failed inside Deputy')
    else logger[isOfAdmin ? 'warn' : 'info']({ error: error.code, correlation_id: id }, error.message)
    // What the user is not told, `deputy explain` tells the admin by the id that the user has.
    if (isOfAdmin) {
      const { code, message, next } = error
      audit
        .append({ id, event: 'connect.failed', outcome: 'failed', detail: { error: { code, message, next } } })
        .catch((failure: unknown) => {
          logger.warn({ err: failure, correlation_id: id }, 'a failed connect page could not be recorded')
        })
    }
    protect(response)
    const [sentence, step] = isOfAdmin
      ? [
          'Deputy cannot do this at the moment, for a reason that its administrator has to look at.',
          'Tell your administrator the correlation id below.',
        ]
      : [error.message, error.next]
    response.status(error.kind.status).send(errorPage(sentence, step, id, otherAccount))
  }

/** What other services read: keys and metadata. */
const addDocuments = (app: Express, { jwks, metadata, discovery }: ConnectPagesDependencies): void => {
  app.get('/.well-known/jwks.json', (_request, response) => {
    response.set('Cache-Control', 'public, max-age=300').json(jwks())
  })
  app.get('/.well-known/oauth-authorization-server', (_request, response) => {
    response.json(metadata())
  })
  app.get('/.well-known/openid-configuration', (_request, response) => {
    response.set('Cache-Control', 'public, max-age=300').json(discovery())
  })
}

const addSteps = (
  app: Express,
  { flow, baseUrl, cookieKey, random, authorizationServer }: ConnectPagesDependencies,
  fail: ReturnType<typeof createErrorAnswer>,
): void => {
  const browsers = createBrowsers({ key: cookieKey, random })
  const urlOf = (request: Request): URL => new URL(request.originalUrl, `${baseUrl()}/`)
  const send = (response: Response, answer: StepAnswer): void => {
    if ('redirect' in answer) response.redirect(303, answer.redirect.href)
    else if ('refused' in answer) fail(response, answer.refused, answer.otherAccount)
    else {
      protect(response, answer.formTarget)
      response.send(answer.page)
    }
  }
  const step =
    (work: (request: Request, browser: string | undefined) => Promise<StepAnswer>) =>
    async (request: Request, response: Response): Promise<void> => {
      send(response, await work(request, browsers.read(request)))
    }
  const begin =
    (kind: 'connect' | 'login') =>
    async (request: Request, response: Response): Promise<void> => {
      const from = {
        browser: () => browsers.greet(request, response),
        isOtherAccount: urlOf(request).searchParams.get('account') === 'other',
      }
      send(response, await flow.begin(kind, String(request.params['link']), from))
    }
  const form = express.urlencoded({ extended: false, limit: 16_384, parameterLimit: 200 })
  app.get('/connect/style.css', (_request, response) => {
    response.type('text/css').set('Cache-Control', 'public, max-age=3600').send(STYLE)
  })
  app.get(
    ['/connect/signed-in', '/connect/signed-in/:tenant'],
    step((request, browser) => flow.signedIn(urlOf(request), browser)),
  )
  app.get(
    ['/connect/callback', '/connect/callback/:provider'],
    step((request, browser) => flow.authorized(urlOf(request), browser)),
  )
  app.post(
    '/connect/consent',
    form,
    step((request, browser) => flow.consented(request.body as FormFields, browser)),
  )
  app.post(
    '/login/confirm',
    form,
    step((request, browser) => flow.confirmed(request.body as FormFields, browser)),
  )
  addClientPages(app, { flow, authorizationServer, browser: browsers, send, urlOf })
  app.get('/connect/:link', begin('connect'))
  app.get('/login/:link', begin('login'))
}

/** The pages on which users connect: requests of a browser become steps of the flow, and its answers become pages. */
export const createConnectPages = (deps: ConnectPagesDependencies): Express => {
  const app = express()
  app.disable('x-powered-by')
  app.set('query parser', false)
  app.use((request, response, next) => {
    response.locals['correlationId'] = deps.newId()
    protect(response)
    const expected = new URL(deps.baseUrl())
    const { host, origin } = request.headers
    if (host !== expected.host) throw refuse('foreign_caller', { header: 'foreign Host' })
    if (origin !== undefined && origin !== expected.origin) throw refuse('foreign_caller', { header: 'foreign Origin' })
    next()
  })
  const fail = createErrorAnswer(deps)
  addSteps(app, deps, fail)
  addDocuments(app, deps)
  app.get('/oauth2/authorize', () => {
    throw refuse('connect_invalid', {
      problem:
        "this page signs no user in to an MCP client; a client redeems an assertion of the company's identity provider",
    })
  })
  app.use(() => {
    throw refuse('connect_invalid', { problem: 'there is no such page' })
  })
  const onError: ErrorRequestHandler = (thrown: unknown, _request, response, next) => {
    if (response.headersSent) next(thrown)
    else fail(response, refusalOf(thrown))
  }
  app.use(onError)
  return app
}
