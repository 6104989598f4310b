import { pagesUrlOf } from '../client-document.ts'
import type { Problem } from '../problem.ts'
import type { Server } from '../server.ts'
import type { Settings } from '../settings.ts'
import type { Tenant } from '../tenant.ts'
import { servesTenant } from '../values.ts'
import type { Located } from '../yaml-file.ts'

/** What keeps users from signing in at a server through Deputy, whose file says that they do. */
export const checkSignInAt = (
  {
    settings,
    tenants,
  }: { readonly settings: Located<Settings>; readonly tenants: ReadonlyMap<string, Located<Tenant>> },
  { file, lineOf, value }: Located<Server>,
): Problem[] => {
  if (value.sign_in !== 'deputy') return []
  const problems: Problem[] = []
  const pagesUrl = pagesUrlOf(settings.value)
  if (settings.value.issuer.replace(/\/$/, '') !== pagesUrl)
    problems.push({
      file: settings.file,
      line: settings.lineOf(['issuer']),
      message: `Clients look for the authorization server at issuer, ${settings.value.issuer}, and Deputy answers at ${pagesUrl}.`,
      fix: `Write issuer: ${pagesUrl}, or set connect_url to the issuer.`,
    })
  const served = [...tenants.values()].filter(({ value: tenant }) => servesTenant(value.tenants, tenant.tenant))
  if (!served.some(({ value: tenant }) => tenant.sign_in !== undefined))
    problems.push({
      file,
      line: lineOf(['sign_in']),
      message: "Users are to sign in at Deputy, and none of the server's tenants has a sign_in.",
      fix: 'Add sign_in to the file of a tenant, or write sign_in: issuer.',
    })
  return problems
}
