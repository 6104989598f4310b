import type { IncomingMessage } from 'node:http'
import { discoveryDocument, hostOf, metadataDocument, requestTargetOf, sendJson } from '#listeners/http'
import type { Endpoint, LocalApiDependencies } from './endpoint.ts'

type Dependencies = Pick<LocalApiDependencies, 'snapshot' | 'peer'>

/** The address that the request names: the loopback address over TCP; over the socket, whose clients make up a host, the issuer. */
const metadataOf = async (request: IncomingMessage, { snapshot, peer }: Dependencies): Promise<object> => {
  const isSocket = (await peer(request)) !== undefined
  return metadataDocument(
    isSocket
      ? snapshot().settings.issuer
      : `http://${requestTargetOf(request).authority ?? hostOf(request) ?? 'localhost'}`,
    isSocket,
  )
}

/** Authorization server metadata (RFC 8414). */
export const metadataEndpoint =
  (deps: Dependencies): Endpoint =>
  async (request, response) => {
    sendJson(response, 200, await metadataOf(request, deps))
  }

/** The same as OpenID Connect Discovery 1.0 has it. */
export const discoveryEndpoint =
  (deps: Dependencies): Endpoint =>
  async (request, response) => {
    sendJson(response, 200, discoveryDocument(await metadataOf(request, deps)))
  }

/** The keys of what Deputy signs (RFC 7517). */
export const keysEndpoint =
  ({ jwks }: Pick<LocalApiDependencies, 'jwks'>): Endpoint =>
  (_request, response) => {
    sendJson(response, 200, jwks(), { 'Cache-Control': 'public, max-age=300' })
  }
