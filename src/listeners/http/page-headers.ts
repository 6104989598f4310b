/**
 * Headers of a page of Deputy's: no scripts, no frames, nothing from elsewhere, nothing stored.
 * @param formTarget the origin or scheme that a form may lead to, beside this address
 */
export const pageHeaders = (formTarget?: string): Readonly<Record<string, string>> => ({
  'Content-Security-Policy': `default-src 'none'; style-src 'self'; form-action 'self'${formTarget === undefined ? '' : ` ${formTarget}`}; frame-ancestors 'none'; base-uri 'none'`,
  'X-Frame-Options': 'DENY',
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'same-origin',
  'Cache-Control': 'no-store',
})
