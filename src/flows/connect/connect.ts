import express, { type ErrorRequestHandler, type Express, type Request, type Response } from 'express'
import { LRUCache } from 'lru-cache'
import type { Clock, Random } from '#clock'
import type { CurrentSnapshot, DownstreamOf, Tenant } from '#config'
import type { CredentialRequest } from '#credentials/connector'
import type { IdentityProviders, ProviderClients } from '#credentials/provider'
import type { ResolveSecret } from '#credentials/secret'
import { asDeputyError, DeputyError, type ErrorCategory, refuse } from '#errors'
import type { AuditEvent, AuditLog } from '#foundation/audit'
import { cacheKey } from '#foundation/cache'
import type { Membership } from '#foundation/cluster'
import { type Envelope, Secret } from '#foundation/crypto'
import type { Egress } from '#foundation/outbound'
import type { Grant, GrantOwner, Store } from '#foundation/store'
import type { Logger } from '#foundation/telemetry'
import { ownValue } from '#foundation/text'
import type { WatchClaims } from '#identity/subject'
import { assertEnabled, assertNotRevoked, entitlement, type Standing } from '#identity/validity'
import { createAttempts, LIFETIME, type ConnectWish, type Step } from './attempt.ts'
import { createAuthorization } from './authorization.ts'
import { createBrowsers } from './browser.ts'
import type { IdentityTokens } from './identity-tokens.ts'
import { consentPage, donePage, errorPage, loginPage, STYLE } from './page.ts'
import { createSignIn, type SignedIn } from './sign-in.ts'

export interface ConnectDependencies {
  readonly snapshot: CurrentSnapshot
  readonly store: Pick<Store, 'attempts' | 'consents' | 'grants' | 'sessions'>
  readonly envelope: Envelope
  readonly egress: Egress
  readonly clients: ProviderClients
  readonly identityProviders: IdentityProviders
  readonly identityTokens: Pick<IdentityTokens, 'keep'>
  readonly watchClaims?: WatchClaims
  readonly clock: Clock
  readonly random: Random
  readonly resolveSecret: ResolveSecret
  readonly audit: AuditLog
  readonly logger: Logger
  readonly standing: Standing
  /** Ends the tokens of a grant that another one has replaced at their provider; is not waited for. */
  readonly endReplaced: (replaced: Grant, by: Grant) => void
  /**
   * Ends a grant that is not kept at its provider, with what is sealed in it. @returns false where no order for it can
   * be written
   */
  readonly endSealed: (grant: Grant) => Promise<boolean>
  readonly membership: Pick<Membership, 'catchUp'>
  /** Public URL of these pages. */
  readonly baseUrl: () => string
  readonly cookieKey: Secret
  /** Published for services that verify minted tokens. */
  readonly jwks: () => object
  readonly metadata: () => object
  /** For clouds that trust what Deputy signs. */
  readonly discovery: () => object
}

export interface Connect {
  readonly app: Express
  /** The link on which the user can give a server these scopes. The same wish gets the same link for a while. @param claims a claims challenge of the service */
  connectUrl(request: CredentialRequest, scopes: readonly string[], claims?: string): Promise<string>
  /** The link on which the Unix user with this uid signs in. @throws DeputyError `connect_invalid` when the tenant has no sign-in */
  startLogin(request: { tenant: string; uid: number }): Promise<{ url: string }>
}

const CONSENT_LIFETIME = 365 * 86_400_000
const SESSION_LIFETIME = 12 * 3_600_000
const LOGIN_LINKS_A_MINUTE = 10

/** What is wrong with Deputy's own set-up: its words name files and commands, which are no business of a user. */
const OF_THE_ADMIN: ReadonlySet<ErrorCategory> = new Set(['config', 'secret', 'store', 'audit', 'internal'])

const unavailable = (): DeputyError =>
  refuse('connect_invalid', { problem: 'the server or the service is no longer available' })

/** Why the files say no is for the admin; the user learns that the link leads nowhere. */
const asUnavailable = <T>(work: () => T): T => {
  try {
    return work()
  } catch (error) {
    throw error instanceof DeputyError ? unavailable() : error
  }
}

/**
 * The pages on which users connect. The order of a flow is the security of it: the link says what is asked, signing in
 * shows who opened it, only the user for whom it was asked sees the consent page, and only after consent does a
 * request to the service exist. Every step is single-use and bound to the browser that began it.
 */
export const createConnect = (deps: ConnectDependencies): Connect => {
  const { snapshot, store, audit, clock } = deps
  const base = deps.baseUrl
  const attempts = createAttempts({ ...deps, store: store.attempts })
  const browsers = createBrowsers({ key: deps.cookieKey, random: deps.random })
  const signIn = createSignIn({ ...deps, attempts, redirectUri: () => `${base()}/connect/signed-in` })
  const authorization = createAuthorization({ ...deps, attempts, redirectUri: () => `${base()}/connect/callback` })
  const newId = (): string => Buffer.from(deps.random.bytes(15)).toString('base64url')

  const tenantOf = (id: string): Tenant => {
    const tenant = snapshot().tenants.get(id)
    if (tenant?.enabled !== true) throw refuse('subject_tenant_unknown')
    return tenant
  }

  /** @throws DeputyError `subject_tenant_unknown`, `subject_tenant_frozen`, `subject_user_disabled` */
  const assertMaySignIn = (tenant: string, user: string): void => {
    tenantOf(tenant)
    assertEnabled(tenant, user, deps)
  }

  /**
   * The server and the service of a connect request, as the files and the admin allow them now: every step asks again, because
   * either may have been taken away since the link was made.
   */
  const partiesOf = ({ tenant, user, server, downstream }: ConnectWish) => {
    assertEnabled(tenant, user, deps)
    const found = asUnavailable(() => entitlement(snapshot(), { tenant, user, server, downstreams: [downstream] }))
    const [service] = found.downstreams
    if (service?.credential !== 'oauth_grant' && service?.credential !== 'id_jag') throw unavailable()
    return { server: found.server, downstream: service }
  }

  /** The parties of a wish that ends in a grant, and so begins with consent. */
  const grantPartiesOf = (wish: ConnectWish) => {
    const { server, downstream } = partiesOf(wish)
    if (downstream.credential !== 'oauth_grant') throw unavailable()
    return { server, downstream }
  }

  const ownerOf = ({ tenant, user, server, downstream }: ConnectWish): GrantOwner => ({
    tenant,
    user,
    server,
    downstream,
  })

  const record = (event: AuditEvent, outcome: 'done' | 'refused', wish: ConnectWish, detail: object): Promise<void> =>
    audit.append({ id: wish.correlationId, event, outcome, ...ownerOf(wish), detail: { ...detail } })

  /** The browser that began the step must be the one that goes on with it. */
  const assertBrowser = (request: Request, expected: string): void => {
    if (browsers.read(request) !== expected)
      throw refuse('connect_invalid', { problem: 'it was begun in another browser' })
  }

  const goOnToService = async (
    response: Response,
    wish: ConnectWish,
    granted: readonly string[],
    downstream: DownstreamOf<'oauth_grant'>,
    browser: string,
    link: string,
  ): Promise<void> => {
    response.redirect(303, (await authorization.begin(wish, granted, downstream, browser, link)).href)
  }

  const showConsent = async (response: Response, step: Step<'consent'>): Promise<void> => {
    const { wish, browser, link, display } = step
    const { server, downstream } = grantPartiesOf(wish)
    const remembered = await store.consents.find(ownerOf(wish))
    if (
      remembered !== undefined &&
      remembered.until > clock.now() &&
      wish.scopes.every((scope) => remembered.granted.includes(scope))
    ) {
      await goOnToService(response, wish, wish.scopes, downstream, browser, link)
      return
    }
    const csrf = await attempts.begin('consent', wish.tenant, step)
    const target = await authorization.target(wish, downstream)
    // Browsers hold a form's redirects to `form-action` as well: the one place that it may lead to is named.
    protect(response, target.origin)
    response.send(
      consentPage({
        server: server.name ?? server.server,
        owner: server.owner,
        service: downstream.name ?? downstream.downstream,
        user: shownUser(wish.user, display),
        tenant: wish.tenant,
        csrf,
        scopes: wish.scopes.map((scope) => ({ scope, words: ownValue(downstream.scopes, scope) ?? scope })),
        until: dayOf(clock.now() + CONSENT_LIFETIME),
        redirectHost: target.host,
      }),
    )
  }

  /** Where the company's identity provider decides what the user's servers may have, the sign-in is all that was missing. */
  const finishSignIn = async (
    response: Response,
    wish: ConnectWish,
    link: string,
    who: SignedIn,
    service: string,
  ): Promise<void> => {
    await record('connect.signed_in', 'done', wish, { issuer: who.issuer })
    await deps.identityTokens.keep({ tenant: wish.tenant, user: who.user, issuer: who.issuer }, who.idToken)
    await attempts.take('connect', link).catch(() => undefined)
    links.clear()
    response.send(
      donePage('Signed in', `${service} can be asked for now. Go back to where you came from and try again.`),
    )
  }

  /** Threat 11: who opened the link must be who asked. Nothing has been stored for anybody else until here, nor is it now. */
  const afterSignIn = async (
    response: Response,
    { purpose, browser }: Step<'sign_in'>,
    who: SignedIn,
  ): Promise<void> => {
    if (purpose.kind === 'connect') {
      const { wish, link } = purpose
      if (who.user !== wish.user) {
        await record('connect.refused', 'refused', wish, {
          error: {
            code: 'connect_wrong_user',
            message: 'another user opened the link',
            next: 'Send the link only to the user who asked for the connection.',
          },
          opened_by: who.user,
        })
        // The identity provider would sign the same user in again, unasked.
        response.locals['otherAccount'] = `/connect/${link}?account=other`
        throw refuse('connect_wrong_user')
      }
      const { downstream } = partiesOf(wish)
      if (downstream.credential === 'oauth_grant')
        await showConsent(response, {
          browser,
          link,
          wish,
          ...(who.display === undefined ? {} : { display: who.display }),
        })
      else await finishSignIn(response, wish, link, who, downstream.name ?? downstream.downstream)
      return
    }
    const { wish, link } = purpose
    assertMaySignIn(wish.tenant, who.user)
    const csrf = await attempts.begin('confirm', wish.tenant, {
      browser,
      link,
      wish,
      user: who.user,
      ...(who.display === undefined ? {} : { display: who.display }),
      issuer: who.issuer,
      groups: [...who.groups],
      claims: { ...who.claims },
      idToken: who.idToken.reveal(),
      signedInAt: clock.now(),
    })
    const otherAccount = `/login/${link}?account=other`
    response.send(
      loginPage({ user: shownUser(who.user, who.display), tenant: wish.tenant, uid: wish.uid, csrf, otherAccount }),
    )
  }

  const finishConsent = async (request: Request, response: Response): Promise<void> => {
    const form = request.body as Readonly<Record<string, unknown>>
    const step = await attempts.take('consent', textOf(form['csrf']))
    assertBrowser(request, step.browser)
    const { wish, link, browser, display } = step
    const known = display === undefined ? {} : { display }
    const { downstream } = grantPartiesOf(wish)
    const granted = wish.scopes.filter((scope, at) => form[`scope-${at}`] === scope)
    if (form['decision'] !== 'allow' || (granted.length === 0 && wish.scopes.length > 0)) {
      await record('connect.consent', 'refused', wish, {
        ...known,
        asked: { scopes: wish.scopes },
        decision: { allowed: false },
      })
      response.send(donePage('Nothing was connected', 'You did not allow it, so the server gets nothing.'))
      return
    }
    await record('connect.consent', 'done', wish, { ...known, asked: { scopes: wish.scopes }, granted })
    await store.consents.put({
      ...ownerOf(wish),
      asked: wish.scopes,
      granted,
      at: clock.now(),
      until: clock.now() + CONSENT_LIFETIME,
    })
    await goOnToService(response, wish, granted, downstream, browser, link)
  }

  const finishAuthorization = async (request: Request, response: Response): Promise<void> => {
    const answer = new URL(request.originalUrl, `${base()}/`)
    const step = await attempts.take('authorization', onlyState(answer))
    assertBrowser(request, step.browser)
    const { wish, link, consentedAt } = step
    const { downstream } = grantPartiesOf(wish)
    const { grant, end } = await authorization.complete(answer, step, downstream)
    const assertStands = (): void => {
      const { tenant, user, server } = wish
      grantPartiesOf(wish)
      assertNotRevoked(
        {
          tenant,
          user,
          server,
          downstreams: [wish.downstream],
          provider: downstream.provider,
          tokens: [],
          since: consentedAt,
        },
        deps,
      )
    }
    const give = async (): Promise<void> => {
      assertStands()
      const replaced = await store.grants.find(grant)
      const stored = await store.grants.put(grant)
      try {
        // An admin who revoked between the check and the write, here or at another node, found no grant to remove: ask again now that it is stored.
        await deps.membership.catchUp()
        assertStands()
        await record('connect.complete', 'done', wish, {
          grant: stored.id,
          scopes: grant.scopes,
          provider: downstream.provider,
        })
        if (replaced !== undefined) deps.endReplaced(replaced, stored)
      } catch (error) {
        await store.grants.remove({ id: stored.id })
        throw error
      }
    }
    try {
      await give()
    } catch (error) {
      await end().catch((failure: unknown) => {
        deps.logger.warn({ err: failure }, 'tokens that were not kept could not be ended at their provider')
      })
      throw error
    }
    await attempts.take('connect', link).catch(() => undefined)
    links.clear()
    response.send(
      donePage(
        'Connected',
        `${downstream.name ?? downstream.downstream} is connected. Go back to where you came from and try again.`,
      ),
    )
  }

  const finishLogin = async (request: Request, response: Response): Promise<void> => {
    const form = request.body as Readonly<Record<string, unknown>>
    const { browser, link, wish, user, display, issuer, groups, claims, idToken, signedInAt } = await attempts.take(
      'confirm',
      textOf(form['csrf']),
    )
    assertBrowser(request, browser)
    assertMaySignIn(wish.tenant, user)
    await attempts.take('login', link)
    if (form['decision'] !== 'allow') {
      response.send(donePage('Nobody was signed in', 'Nothing on that computer acts for you.'))
      return
    }
    await audit.append({
      id: wish.correlationId,
      event: 'login',
      outcome: 'done',
      tenant: wish.tenant,
      user,
      detail: { uid: wish.uid, issuer, ...(display === undefined ? {} : { display }) },
    })
    await store.sessions.put({
      uid: wish.uid,
      tenant: wish.tenant,
      user,
      issuer,
      groups,
      claims,
      signedInAt,
      expiresAt: signedInAt + SESSION_LIFETIME,
    })
    await deps.identityTokens.keep({ tenant: wish.tenant, user, issuer }, new Secret(idToken))
    response.send(
      donePage(
        'Signed in',
        `The Unix user ${wish.uid} acts as ${shownUser(user, display)} until ${new Date(signedInAt + SESSION_LIFETIME).toISOString()}.`,
      ),
    )
  }

  const links = new LRUCache<string, string>({ max: 10_000, ttl: LIFETIME / 2 })
  const loginLinks = new LRUCache<number, number>({ max: 10_000, ttl: 60_000 })

  const app = express()
  app.disable('x-powered-by')
  app.set('query parser', false)
  app.use((request, response, next) => {
    response.locals['correlationId'] = newId()
    protect(response)
    const expected = new URL(base())
    const { host, origin } = request.headers
    if (host !== expected.host) throw refuse('foreign_caller', { header: 'foreign Host' })
    if (origin !== undefined && origin !== expected.origin) throw refuse('foreign_caller', { header: 'foreign Origin' })
    next()
  })

  const step =
    (work: (request: Request, response: Response) => Promise<void>) =>
    (request: Request, response: Response): Promise<void> =>
      work(request, response)
  const begin = (kind: 'connect' | 'login') =>
    step(async (request, response) => {
      const link = String(request.params['link'])
      const purpose =
        kind === 'connect'
          ? ({ kind, link, wish: await attempts.look('connect', link) } as const)
          : ({ kind, link, wish: await attempts.look('login', link) } as const)
      if (purpose.kind === 'connect') partiesOf(purpose.wish)
      response.redirect(
        303,
        (
          await signIn.begin(
            tenantOf(purpose.wish.tenant),
            browsers.greet(request, response),
            purpose,
            new URL(request.originalUrl, `${base()}/`).searchParams.get('account') === 'other',
          )
        ).href,
      )
    })
  const form = express.urlencoded({ extended: false, limit: 16_384, parameterLimit: 200 })

  app.get('/connect/style.css', (_request, response) => {
    response.type('text/css').set('Cache-Control', 'public, max-age=3600').send(STYLE)
  })
  app.get(
    '/connect/signed-in',
    step(async (request, response) => {
      const answer = new URL(request.originalUrl, `${base()}/`)
      const found = await attempts.take('sign_in', onlyState(answer))
      assertBrowser(request, found.browser)
      await afterSignIn(response, found, await signIn.complete(answer, found, tenantOf(found.purpose.wish.tenant)))
    }),
  )
  app.get('/connect/callback', step(finishAuthorization))
  app.post('/connect/consent', form, step(finishConsent))
  app.post('/login/confirm', form, step(finishLogin))
  app.get('/connect/:link', begin('connect'))
  app.get('/login/:link', begin('login'))
  app.get('/.well-known/jwks.json', (_request, response) => {
    response.set('Cache-Control', 'public, max-age=300').json(deps.jwks())
  })
  app.get('/.well-known/oauth-authorization-server', (_request, response) => {
    response.json(deps.metadata())
  })
  app.get('/.well-known/openid-configuration', (_request, response) => {
    response.set('Cache-Control', 'public, max-age=300').json(deps.discovery())
  })
  app.get('/oauth2/authorize', () => {
    throw refuse('connect_invalid', {
      problem:
        "this page signs no user in to an MCP client; a client redeems an assertion of the company's identity provider",
    })
  })
  app.use(() => {
    throw refuse('connect_invalid', { problem: 'there is no such page' })
  })

  const recordFailure = (id: string, { code, message, next }: DeputyError): Promise<void> =>
    audit.append({ id, event: 'connect.failed', outcome: 'failed', detail: { error: { code, message, next } } })

  const onError: ErrorRequestHandler = (thrown: unknown, _request, response, next) => {
    const known = asDeputyError(thrown)
    const malformed =
      thrown instanceof Error && 'type' in thrown && 'status' in thrown
        ? 'the form is malformed'
        : thrown instanceof URIError
          ? 'its address is malformed'
          : undefined
    const error = malformed === undefined ? known : refuse('connect_invalid', { problem: malformed })
    const correlationId = String(response.locals['correlationId'])
    const isOfAdmin = OF_THE_ADMIN.has(error.kind.category)
    if (error.code === 'internal')
      deps.logger.error({ err: error.cause, correlation_id: correlationId }, 'a connect page failed inside Deputy')
    else deps.logger[isOfAdmin ? 'warn' : 'info']({ error: error.code, correlation_id: correlationId }, error.message)
    // What the user is not told, `deputy explain` tells the admin by the id that the user has.
    if (isOfAdmin)
      recordFailure(correlationId, error).catch((failure: unknown) => {
        deps.logger.warn({ err: failure, correlation_id: correlationId }, 'a failed connect page could not be recorded')
      })
    if (response.headersSent) {
      next(thrown)
      return
    }
    protect(response)
    const [sentence, step] = isOfAdmin
      ? [
          'Deputy cannot do this at the moment, for a reason that its administrator has to look at.',
          'Tell your administrator the correlation id below.',
        ]
      : [error.message, error.next]
    const otherAccount: unknown = response.locals['otherAccount']
    response
      .status(error.kind.status)
      .send(errorPage(sentence, step, correlationId, typeof otherAccount === 'string' ? otherAccount : undefined))
  }
  app.use(onError)

  return {
    app,
    async connectUrl({ principal, server, downstream, correlationId }, scopes, claims) {
      const user = principal.kind === 'user' ? principal.user : ''
      const key = cacheKey(principal.tenant, user, server.server, downstream.downstream, claims ?? '', ...scopes)
      const known = links.get(key)
      if (known !== undefined) return known
      const wish: ConnectWish = {
        tenant: principal.tenant,
        user,
        server: server.server,
        downstream: downstream.downstream,
        scopes: [...scopes],
        correlationId,
        ...(claims === undefined ? {} : { claims }),
      }
      const url = `${base()}/connect/${await attempts.begin('connect', principal.tenant, wish)}`
      links.set(key, url)
      return url
    },
    async startLogin({ tenant, uid }) {
      if (tenantOf(tenant).sign_in === undefined)
        throw refuse('connect_invalid', { problem: `the tenant ${tenant} has no sign-in` })
      const recent = loginLinks.get(uid) ?? 0
      if (recent >= LOGIN_LINKS_A_MINUTE) throw refuse('rate_limited', { what: 'sign-in links', seconds: 60 })
      loginLinks.set(uid, recent + 1)
      return {
        url: `${base()}/login/${await attempts.begin('login', tenant, { tenant, uid, correlationId: newId() })}`,
      }
    },
  }
}

/** The name that people know, with the id that everything else goes by. */
const shownUser = (user: string, display: string | undefined): string =>
  display === undefined || display === user ? user : `${display}, ${user}`

const textOf = (value: unknown): string => (typeof value === 'string' ? value : '')

/** The one `state` of an answer. */
const onlyState = (answer: URL): string => {
  const [state, another] = answer.searchParams.getAll('state')
  if (state === undefined || another !== undefined)
    throw refuse('connect_invalid', { problem: 'the answer carries no state, or more than one' })
  return state
}

const dayOf = (at: number): string => new Date(at).toISOString().slice(0, 10)

/** No scripts, no frames, nothing from elsewhere, nothing stored; forms lead here, and where the consent says. */
const protect = (response: Response, formTarget?: string): void => {
  response.set({
    'Content-Security-Policy': `default-src 'none'; style-src 'self'; form-action 'self'${formTarget === undefined ? '' : ` ${formTarget}`}; frame-ancestors 'none'; base-uri 'none'`,
    'X-Frame-Options': 'DENY',
    'X-Content-Type-Options': 'nosniff',
    'Referrer-Policy': 'same-origin',
    'Cross-Origin-Opener-Policy': 'same-origin',
    'Cache-Control': 'no-store',
  })
}
