import type { KoaContextWithOIDC } from 'oidc-provider'
import { pageHeaders } from '#listeners/http'

/** Shows a page of Deputy's own: no scripts, no frames, nothing stored. */
export const showPage = (context: Pick<KoaContextWithOIDC, 'set' | 'type' | 'body'>, page: string): void => {
  context.set({ ...pageHeaders() })
  context.type = 'html'
  context.body = page
}
