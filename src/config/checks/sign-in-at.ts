import { pagesUrlOf } from '../client-document.ts'
import type { Problem } from '../problem.ts'
import type { Server } from '../server.ts'
import type { Settings } from '../settings.ts'
import type { Snapshot } from '../snapshot.ts'
import { servesTenant } from '../values.ts'
import type { Located } from '../yaml-file.ts'

/** What keeps users from signing in at a server through Deputy, whose file says that they do. */
export const checkSignInAt = (
  { settings }: { readonly settings: Located<Settings> },
  { value }: Located<Server>,
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
  return problems
}

/**
 * Servers at which no user can sign in through Deputy. That is a warning: a tenant that is taken away has to be away at once, whatever
 * else is in the files.
 */
export const signInAtWarnings = ({ servers, tenants }: Pick<Snapshot, 'servers' | 'tenants'>): Problem[] =>
  [...servers.values()]
    .filter(
      ({ sign_in: at, tenants: served }) =>
        at === 'deputy' &&
        ![...tenants.values()].some(
          ({ tenant, sign_in: signIn }) => signIn !== undefined && servesTenant(served, tenant),
        ),
    )
    .map(({ server }) => ({
      file: `servers/${server}.yaml`,
      line: 1,
      message: `Users sign in to ${server} at Deputy, and none of its tenants has a sign_in.`,
      fix: 'Add sign_in to the file of a tenant, or write sign_in: issuer.',
    }))
