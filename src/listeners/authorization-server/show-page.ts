import type { KoaContextWithOIDC } from 'oidc-provider'

/** Shows a page of Deputy's own: no scripts, no frames, nothing stored. */
export const showPage = (context: Pick<KoaContextWithOIDC, 'set' | 'type' | 'body'>, page: string): void => {
  context.set({
    'Content-Security-Policy':
      "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    'X-Frame-Options': 'DENY',
    'X-Content-Type-Options': 'nosniff',
    'Referrer-Policy': 'same-origin',
    'Cache-Control': 'no-store',
  })
  context.type = 'html'
  context.body = page
}
