import type { IncomingMessage } from 'node:http'
import type { KoaContextWithOIDC } from 'oidc-provider'
import { toSeconds } from '#clock'
import type { CurrentSnapshot } from '#config'
import { asDeputyError, refuse } from '#errors'
import type { Rates } from '#foundation/cache'
import type { Logger } from '#foundation/telemetry'
import { type ClientRegistry, readClientMetadata } from '#identity/client'
import { errorAnswer, readAnyJson } from '#listeners/http'
import { toLibrary } from './clients.ts'
import { addressOf, admitNewClient } from './new-clients.ts'

export interface RegistrationDependencies {
  readonly clientRegistry: Pick<ClientRegistry, 'register'>
  readonly snapshot: CurrentSnapshot
  readonly rates: Pick<Rates, 'admit'>
  readonly logger: Logger
}

/**
 * Registers a client by what it says of itself (RFC 7591 section 3.1).
 * @returns the answer. @throws DeputyError
 */
const register = async (
  deps: RegistrationDependencies,
  request: IncomingMessage,
  grantTypes: ReadonlySet<string>,
): Promise<object> => {
  const { registration, redirect_schemes: schemes } = deps.snapshot().settings.clients
  if (!registration.enabled) throw refuse('not_found', { path: 'the registration of clients, which is switched off' })
  if (request.method !== 'POST') throw refuse('method_not_allowed', { method: String(request.method), allowed: 'POST' })
  const address = addressOf(request)
  await admitNewClient(deps.rates, address)
  const said = await readAnyJson(request, registration.max_bytes)
  if (said === undefined) throw refuse('client_metadata_invalid', { problem: 'it is no JSON object' })
  const metadata = readClientMetadata(said, 'registered', schemes)
  const { client, secret } = await deps.clientRegistry.register(metadata)
  deps.logger.info({ client: client.id, name: metadata.name, address }, 'a client has registered itself')
  const { application_type: _type, ...registered } = toLibrary({ id: client.id, metadata }, grantTypes)
  return {
    ...registered,
    client_id_issued_at: toSeconds(client.firstSeen ?? 0),
    ...(secret === undefined ? {} : { client_secret: secret.reveal(), client_secret_expires_at: 0 }),
  }
}

/**
 * Answers the registration endpoint. It is Deputy's own: the library's would refuse clients for metadata that means nothing here,
 * and keep what they may not have. Any web page may ask: a registration needs no proof, and gives none.
 */
export const answerRegistration = async (
  deps: RegistrationDependencies,
  context: KoaContextWithOIDC,
  grantTypes: ReadonlySet<string>,
): Promise<void> => {
  context.set({ 'Access-Control-Allow-Origin': '*', 'Cache-Control': 'no-store' })
  if (context.method === 'OPTIONS') {
    context.set({
      'Access-Control-Allow-Methods': 'POST',
      'Access-Control-Allow-Headers': '*',
      'Access-Control-Max-Age': '3600',
    })
    context.status = 204
    return
  }
  const correlationId = String(context.state['correlationId'])
  try {
    context.body = await register(deps, context.req, grantTypes)
    context.status = 201
  } catch (thrown) {
    const error = asDeputyError(thrown)
    if (error.code === 'internal')
      deps.logger.error({ err: error.cause, correlation_id: correlationId }, 'a registration failed inside Deputy')
    const { status, body, headers } = errorAnswer(error, correlationId)
    context.set({ ...headers })
    context.status = status
    context.body = body
  }
}
