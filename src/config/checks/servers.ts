import { didYouMean } from '#foundation/text'
import { needsUser } from '../downstream.ts'
import type { Loaded } from '../loaded.ts'
import type { Problem } from '../problem.ts'
import type { Server } from '../server.ts'
import { takesAssertions } from '../tenant.ts'
import { servesTenant } from '../values.ts'
import type { Located } from '../yaml-file.ts'
import { checkExec } from './exec.ts'
import { sharedHosts } from './injection.ts'
import { checkSignInAt } from './sign-in-at.ts'
import { correction, list, problemsOf, unknownTenants } from './names.ts'

/** What a server's file names outside of itself: its successor, its tenants, its authorization server. */
const checkNames = (located: Located<Server>, { servers, tenants }: Loaded): Problem[] => {
  const { value } = located
  const problem = problemsOf(located)
  const problems: Problem[] = []
  if (value.replaced_by !== undefined && !servers.has(value.replaced_by))
    problems.push(
      problem(
        ['replaced_by'],
        `There is no server ${value.replaced_by}.`,
        correction(value.replaced_by, 'Known servers', servers.keys()),
      ),
    )
  problems.push(...unknownTenants(located, value.tenants, tenants))
  const takesNone = !takesAssertions(
    value,
    [...tenants.values()].map((each) => each.value),
  )
  if (value.first_authorization_server === 'deputy' && takesNone)
    problems.push(
      problem(
        ['first_authorization_server'],
        "Clients would be sent to Deputy, and Deputy accepts no identity assertions of the server's tenants.",
        'Add identity_assertions to the file of one of them, or leave it out.',
      ),
    )
  return problems
}

/** One downstream of a server: it exists, serves the server's tenants, has the scopes, and suits the use. */
const checkUse = (
  located: Located<Server>,
  use: 'downstreams' | 'service_downstreams',
  id: string,
  { downstreams }: Loaded,
): Problem[] => {
  const { value } = located
  const problem = problemsOf(located)
  const downstream = downstreams.get(id)?.value
  if (downstream === undefined)
    return [
      problem([use, id], `There is no downstream ${id}.`, correction(id, 'Known downstreams', downstreams.keys())),
    ]
  const problems: Problem[] = []
  if (use === 'service_downstreams' && needsUser(downstream.credential))
    problems.push(
      problem([use, id], `${id} needs a user, so a server cannot ask for itself.`, 'Move it to `downstreams`.'),
    )
  if (downstream.credential === 'minted' && downstream.bound === 'mtls' && value.certificate === undefined)
    problems.push(
      problem(
        [use, id],
        `Tokens for ${id} are bound to the server's certificate, and ${value.server} has none.`,
        'Add `certificate`: openssl x509 -in server.pem -outform DER | sha256sum',
      ),
    )
  const existing = Object.keys(downstream.scopes)
  for (const scope of value[use][id]!.scopes.filter((each) => !existing.includes(each)))
    problems.push(
      problem(
        [use, id, 'scopes'],
        `${id} has no scope ${scope}.`,
        didYouMean(scope, existing) || `Its scopes: ${list(existing)}; add new ones to \`scopes\` of its file.`,
      ),
    )
  if (value.tenants !== '*' && !value.tenants.some((tenant) => servesTenant(downstream.tenants, tenant)))
    problems.push(
      problem([use, id], `${id} serves none of this server's tenants.`, `Add one of them to \`tenants\` of ${id}.`),
    )
  return problems
}

/** The downstream and the scopes of each tool: the server must be registered for them. */
const checkTools = (located: Located<Server>): Problem[] => {
  const { tools, downstreams } = located.value
  const problem = problemsOf(located)
  return Object.entries(tools).flatMap(([tool, { downstream, scopes }]) => {
    if (downstream === undefined) return []
    const registered = Object.hasOwn(downstreams, downstream) ? downstreams[downstream] : undefined
    if (registered === undefined)
      return [
        problem(
          ['tools', tool, 'downstream'],
          `The tool ${tool} uses ${downstream}, for which the server is not registered.`,
          `Add ${downstream} to \`downstreams\` of this server.`,
        ),
      ]
    return scopes
      .filter((scope) => !registered.scopes.includes(scope))
      .map((scope) =>
        problem(
          ['tools', tool, 'scopes'],
          `The tool ${tool} needs ${scope}, for which the server is not registered at ${downstream}.`,
          `Add ${scope} to downstreams.${downstream}.scopes.`,
        ),
      )
  })
}

/** Audiences that count in place of the resource: of an issuer of the server's tenants, and of no server's resource. */
const checkAudiences = (located: Located<Server>, { servers, tenants }: Loaded): Problem[] => {
  const problem = problemsOf(located)
  const trusted = new Set(
    [...tenants.values()]
      .filter(({ value }) => servesTenant(located.value.tenants, value.tenant))
      .flatMap(({ value }) => value.issuers.map(({ issuer }) => issuer)),
  )
  return located.value.accepted_audiences.flatMap(({ issuer, audience }, at) => {
    const owner = [...servers.values()].find(({ value }) => value.resource === audience)
    return [
      ...(trusted.has(issuer)
        ? []
        : [
            problem(
              ['accepted_audiences', at, 'issuer'],
              `No tenant of this server trusts ${issuer}.`,
              correction(issuer, 'Trusted issuers', trusted),
            ),
          ]),
      ...(owner === undefined
        ? []
        : [
            problem(
              ['accepted_audiences', at, 'audience'],
              `${audience} is the resource of ${owner.value.server}, whose tokens would count for this server.`,
              'Leave it out.',
            ),
          ]),
    ]
  })
}

/** Every server: promise 2 needs a resource of its own for each. */
export const checkServers = (loaded: Loaded): Problem[] => {
  const byResource = new Map<string, string>()
  return [...loaded.servers.values()].flatMap((located) => {
    const { server, resource } = located.value
    const twin = byResource.get(resource)
    byResource.set(resource, server)
    const shared =
      twin === undefined
        ? []
        : [
            problemsOf(located)(
              ['resource'],
              `${server} and ${twin} have the same resource, so a token for one would count for the other.`,
              'Give each its own resource URI.',
            ),
          ]
    const uses = (['downstreams', 'service_downstreams'] as const).flatMap((use) => [
      ...Object.keys(located.value[use]).flatMap((id) => checkUse(located, use, id, loaded)),
      ...sharedHosts(loaded.downstreams, located, use),
    ])
    return [
      ...shared,
      ...checkNames(located, loaded),
      ...checkAudiences(located, loaded),
      ...checkSignInAt(loaded, located),
      ...uses,
      ...checkExec(located),
      ...checkTools(located),
    ]
  })
}
