import type { OAuthClient } from './downstream.ts'
import type { Settings } from './settings.ts'
import { idSchema } from './values.ts'

/** Public URL of the connect pages, without a slash at its end. */
export const pagesUrlOf = ({
  connect_url: url,
  listen: {
    connect: { host, port },
  },
}: Pick<Settings, 'connect_url' | 'listen'>): string => (url ?? `http://${host}:${port}`).replace(/\/$/, '')

/** Where a provider sends the browser back to, after the user has authorized a downstream. */
export const callbackUrlOf = (
  pagesUrl: string,
  { provider, redirect_uri: redirect }: { readonly provider: string; readonly redirect_uri: 'shared' | 'own' },
): string => `${pagesUrl}/connect/callback${redirect === 'own' ? `/${provider}` : ''}`

/** Whether a client id is an address of the connect pages: then it has to be one at which there is a document. */
export const isOwnAddress = ({ client_id: id }: Pick<OAuthClient, 'client_id'>, pagesUrl: string): boolean =>
  id === pagesUrl || id.startsWith(`${pagesUrl}/`)

/** The name of the document that Deputy serves for a client (draft-ietf-oauth-client-id-metadata-document); undefined where the id is none of its own addresses. */
export const documentOf = ({ client_id: id }: Pick<OAuthClient, 'client_id'>, pagesUrl: string): string | undefined => {
  const folder = `${pagesUrl}/clients/`
  const name = id.startsWith(folder) ? id.slice(folder.length) : ''
  return idSchema.safeParse(name).success ? name : undefined
}
