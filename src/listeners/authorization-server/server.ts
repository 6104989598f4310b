import type { IncomingMessage, ServerResponse } from 'node:http'
import { errors, type KoaContextWithOIDC, type Provider } from 'oidc-provider'
import { type Random, toSeconds } from '#clock'
import { refuse } from '#errors'
import type { ClientDecision, WaitingClient } from '#flows/connect'
import type { Logger } from '#foundation/telemetry'
import { createBrowsers, paths } from '#listeners/http'
import { clientsInMetadata } from './clients.ts'
import { admitSignIn } from './admission.ts'
import { admitDevice, showLostForm } from './device.ts'
import { createProvider, GRANT_TYPES, type ProviderDependencies, serversOf } from './provider.ts'
import { answerRegistration } from './registration.ts'
import { shownScopes } from './scopes.ts'
import { showRefusal } from './refusal.ts'
import { recordTokens, type TokenDependencies } from './tokens.ts'

/** What the public listener and its pages need of the authorization server. */
export interface AuthorizationServer {
  /** Answers a request for one of its endpoints. */
  handle(request: IncomingMessage, response: ServerResponse): Promise<void>
  /** The request of a client for which the browser has come to the pages. @throws DeputyError `connect_invalid` */
  waiting(request: IncomingMessage, response: ServerResponse): Promise<WaitingClient>
  /** Sends the browser on, to the client in the end. @throws DeputyError `connect_invalid` */
  finish(request: IncomingMessage, response: ServerResponse, decision: ClientDecision): Promise<void>
}

export type AuthorizationServerDependencies = ProviderDependencies &
  TokenDependencies & {
    /** Members of the metadata beside the library's. */
    readonly metadata: () => Readonly<Record<string, unknown>>
    readonly logger: Logger
    readonly random: Random
  }

/** The library builds URLs out of what a request says: it says what the settings say, whatever came. */
const withOwnOrigin = (request: IncomingMessage, issuer: URL): void => {
  request.headers.host = issuer.host
  request.headers['x-forwarded-host'] = issuer.host
  request.headers['x-forwarded-proto'] = issuer.protocol.replace(':', '')
}

/** Metadata of RFC 8414 and OpenID Discovery: the library's, Deputy's keys, and what Deputy does besides. */
const addMetadata = (
  context: KoaContextWithOIDC,
  more: Readonly<Record<string, unknown>>,
  ofClients: Readonly<Record<string, unknown>>,
): void => {
  const own = context.body as Record<string, unknown>
  const listed = (member: string): unknown[] => [
    ...new Set([...((own[member] as unknown[] | undefined) ?? []), ...((more[member] as unknown[] | undefined) ?? [])]),
  ]
  context.body = {
    ...more,
    ...own,
    ...ofClients,
    jwks_uri: more['jwks_uri'],
    ...Object.fromEntries(
      ['grant_types_supported', 'token_endpoint_auth_methods_supported', 'id_token_signing_alg_values_supported'].map(
        (member) => [member, listed(member)],
      ),
    ),
  }
}

const RESUMED = [`${paths.authorize}/`, `${paths.device}/`]

/**
 * Whether the browser that goes on is the one in which the user has decided. The library's own cookie is not enough: who begins a
 * sign-in knows it, and could have planted the rest in the browser of another.
 */
const isOwnBrowser = async (
  provider: Provider,
  browsers: Pick<ReturnType<typeof createBrowsers>, 'read'>,
  context: KoaContextWithOIDC,
): Promise<boolean> => {
  const base = RESUMED.find((path) => context.path.startsWith(path))
  if (base === undefined) return true
  const interaction = await provider.Interaction.find(context.path.slice(base.length))
  const decidedIn = (interaction?.result as { browser?: string } | undefined)?.browser
  if (decidedIn === undefined || decidedIn === browsers.read(context.req)) return true
  showRefusal(context, refuse('connect_invalid', { problem: 'the sign-in was begun in another browser' }))
  return false
}

/** Runs round every request of the library: its correlation id, and what has to happen before an answer leaves. */
const watch = (provider: Provider, deps: AuthorizationServerDependencies): void => {
  const browsers = createBrowsers({ key: deps.cookieKey, random: deps.random })
  provider.use(async (context, next) => {
    const correlationId = deps.correlationId()
    context.state['correlationId'] = correlationId
    context.set('X-Correlation-Id', correlationId)
    if (context.path === paths.registration) {
      await answerRegistration(deps, context as KoaContextWithOIDC, GRANT_TYPES)
      return
    }
    // The pages of the library are in no frame, and are what they say they are.
    context.set({ 'X-Frame-Options': 'DENY', 'X-Content-Type-Options': 'nosniff', 'Referrer-Policy': 'same-origin' })
    if (!(await admitSignIn(deps.rates, context as KoaContextWithOIDC))) return
    if (!(await admitDevice(deps.rates, context as KoaContextWithOIDC))) return
    if (!(await isOwnBrowser(provider, browsers, context as KoaContextWithOIDC))) return
    try {
      await next()
    } catch (error) {
      if (context.path !== paths.device) throw error
      showLostForm(context as KoaContextWithOIDC)
    }
    const oidc = (context as Partial<KoaContextWithOIDC>).oidc
    if (oidc?.route === 'token' && context.method === 'POST') await recordTokens(deps, context as KoaContextWithOIDC)
    if (oidc?.route === 'discovery' && context.status === 200)
      addMetadata(context as KoaContextWithOIDC, deps.metadata(), {
        registration_endpoint: undefined,
        client_id_metadata_document_supported: undefined,
        ...clientsInMetadata(deps.snapshot(), `${deps.issuer.replace(/\/$/, '')}${paths.registration}`),
      })
  })
  provider.on('server_error', (context: KoaContextWithOIDC, error: Error) => {
    deps.logger.error(
      { err: error, correlation_id: String(context.state['correlationId']) },
      'a request to the authorization server failed inside Deputy',
    )
  })
}

const text = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined)

/** The library's complaint about an interaction that is over, as one of the taxonomy. */
const interactionOf = async (provider: Provider, request: IncomingMessage, response: ServerResponse) => {
  try {
    return await provider.interactionDetails(request, response)
  } catch (error) {
    if (error instanceof errors.SessionNotFound && !/(^|;\s*)deputy_sign_in=/.test(request.headers.cookie ?? ''))
      throw refuse('connect_cookie_missing', {}, error)
    if (error instanceof errors.SessionNotFound)
      throw refuse('connect_invalid', { problem: 'the sign-in has expired, or was begun in another browser' }, error)
    throw error
  }
}

export const createAuthorizationServer = (deps: AuthorizationServerDependencies): AuthorizationServer => {
  const provider = createProvider(deps)
  watch(provider, deps)
  const answer = provider.callback()
  const issuer = new URL(deps.issuer)

  return {
    async handle(request, response) {
      withOwnOrigin(request, issuer)
      await answer(request, response)
    },

    async waiting(request, response) {
      withOwnOrigin(request, issuer)
      const { uid, params } = await interactionOf(provider, request, response)
      const clientId = text(params['client_id']) ?? ''
      const client = await deps.clientRegistry.find(clientId)
      const resources = [params['resource']].flat()
      const server = serversOf(deps.snapshot()).find(({ resource }) => resource === resources[0])
      if (client === undefined || server === undefined || resources.length !== 1)
        throw refuse('connect_invalid', { problem: 'the client or the server is no longer available' })
      const loginHint = text(params['login_hint'])
      const redirectUri = text(params['redirect_uri'])
      return {
        interaction: uid,
        client: clientId,
        name: client.name,
        known: client.known,
        ...(client.provenBy === undefined ? {} : { provenBy: client.provenBy }),
        digest: client.digest,
        ...(redirectUri === undefined ? {} : { redirectUri }),
        server: server.server,
        scopes: shownScopes((text(params['scope']) ?? '').split(' ')),
        ...(loginHint === undefined ? {} : { loginHint }),
        correlationId: deps.correlationId(),
      }
    },

    async finish(request, response, { interaction, session, browser }) {
      withOwnOrigin(request, issuer)
      const details = await interactionOf(provider, request, response)
      if (details.uid !== interaction)
        throw refuse('connect_invalid', { problem: 'another sign-in was begun in this browser meanwhile' })
      const result =
        session === undefined
          ? { error: 'access_denied', error_description: 'The user has not allowed it.' }
          : { login: { accountId: session, remember: false }, consent: { grantId: session } }
      const signIn = session === undefined ? undefined : await deps.clientSessions.find(session)
      if (signIn !== undefined) {
        // What the user has allowed the client before stays: a request for more adds to it.
        details.params['scope'] = [...new Set([...String(details.params['scope']).split(' '), ...signIn.scopes])].join(
          ' ',
        )
        await details.save(details.exp - toSeconds(deps.clock.now()))
      }
      await provider.interactionFinished(request, response, { ...result, browser }, { mergeWithLastSubmission: false })
    },
  }
}
