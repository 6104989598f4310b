import { Router, type Response } from 'express'
import type { CurrentSnapshot } from '../config/snapshot.ts'
import { clientDocument } from '../connector/provider/client-document.ts'

/** How long providers may go on with what they have read (s): a new key is published a good deal longer before it signs. */
const MAX_AGE = 300

/**
 * `GET /clients/<name>`: what a client of Deputy's is, for providers that read it at the client's id
 * (draft-ietf-oauth-client-id-metadata-document), and the keys that it signs with.
 */
export const clientDocuments = ({ snapshot, jwks }: { readonly snapshot: CurrentSnapshot; readonly jwks: () => object }): Router => {
  const send = (response: Response, body: object | undefined): void => {
    if (body === undefined) { response.status(404).set('Cache-Control', 'no-store').json({ error: 'not_found' }); return }
    response.set({ 'Cache-Control': `public, max-age=${MAX_AGE}`, 'X-Content-Type-Options': 'nosniff' }).json(body)
  }
  return Router()
    .get('/clients/:name', (request, response) => { send(response, clientDocument(snapshot(), request.params.name)) })
    .get('/clients/:name/jwks.json', (request, response) => { send(response, clientDocument(snapshot(), request.params.name) === undefined ? undefined : jwks()) })
}
