import type { RequestHandler } from 'express'
import type { CurrentSnapshot } from '#config'
import { clientDocument } from '#credentials/provider'

/** How long providers may go on with what they have read (s): a new key is published a good deal longer before it signs. */
const MAX_AGE = 300

/** Read as it is written: nothing in it is escaped. */
const PATH = /^\/([a-z0-9._-]+)(\/jwks\.json)?$/

/**
 * `GET /clients/<name>`: what a client of Deputy's is, for providers that read it at the client's id
 * (draft-ietf-oauth-client-id-metadata-document), and below it the keys that it signs with.
 */
export const clientDocuments =
  ({ snapshot, jwks }: { readonly snapshot: CurrentSnapshot; readonly jwks: () => object }): RequestHandler =>
  (request, response) => {
    const [, name, keys] = PATH.exec(request.path) ?? []
    const document =
      name === undefined || !['GET', 'HEAD'].includes(request.method) ? undefined : clientDocument(snapshot(), name)
    response.set('X-Content-Type-Options', 'nosniff')
    if (document === undefined) response.status(404).set('Cache-Control', 'no-store').json({ error: 'not_found' })
    else response.set('Cache-Control', `public, max-age=${MAX_AGE}`).json(keys === undefined ? document : jwks())
  }
