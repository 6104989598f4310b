import { createHash } from 'node:crypto'
import { SignJWT } from 'jose'
import { z } from 'zod'
import { type Clock, toSeconds } from '#clock'
import { type DownstreamOf, ofTenant } from '#config'
import { readSigningKey } from '#credentials/provider'
import type { Leases, LeaseSource, MadeSecret, ResolveSecret } from '#credentials/secret'
import { DeputyError, refuse } from '#errors'
import { Secret } from '#foundation/crypto'
import { ACCESS_TOKEN_TYPE } from '#oauth'
import type { Connector, CredentialRequest } from '../connector.ts'
import { leaseOwnerOf } from '../vault/lease-owner.ts'
import { hashedToken, headersFor } from './github-token.ts'
import type { AskProvider } from '../token-endpoint/ask.ts'
import { UNSAID_LIFETIME } from '../token-endpoint/token-request.ts'

const LEVELS = ['read', 'write', 'admin'] as const
type Level = (typeof LEVELS)[number]
type Permissions = Readonly<Record<string, Level>>
const rank = (level: Level): number => LEVELS.indexOf(level)

const REPOSITORY = /^repo:([A-Za-z0-9._-]{1,100})$/
const PERMISSION = /^([a-z_]{1,64}):(read|write|admin)$/

/** Every token can read what a repository is called: GitHub gives it along unasked. */
const ALWAYS: Permissions = { metadata: 'read' }

/** An app's assertion is good for ten minutes at most, and begins a minute ago because clocks differ (seconds). */
const [BACKDATED, ASSERTION_LIFE] = [60, 540]

/** https://docs.github.com/en/rest/apps/apps#create-an-installation-access-token-for-an-app */
const answerSchema = z.object({
  token: z.string().min(1),
  expires_at: z.iso.datetime({ offset: true }).optional(),
  permissions: z.record(z.string(), z.enum(LEVELS)).default({}),
  repository_selection: z.enum(['all', 'selected']).optional(),
  repositories: z.array(z.object({ name: z.string() })).optional(),
})
const wordsSchema = z.object({ message: z.string() })

interface Wish {
  readonly permissions: Permissions
  readonly repositories: readonly string[] | undefined
}

/**
 * What the scopes stand for at GitHub. A request that names no permission would be one for all that the installation has, so there
 * is none.
 * @throws DeputyError `scope_not_available`
 */
const wishOf = ({ downstream, scopes, principal, server }: CredentialRequest): Wish => {
  const { permissions: named, repositories: allowed, downstream: id } = downstream as DownstreamOf<'github_app'>
  const permissions: Record<string, Level> = {}
  const repositories: string[] = []
  const unavailable = (): DeputyError =>
    refuse('scope_not_available', { scopes: scopes.join(' '), server: server.server, downstream: id })
  for (const scope of scopes) {
    const repository = Object.hasOwn(named, scope) ? undefined : REPOSITORY.exec(scope)?.[1]
    if (repository !== undefined) {
      repositories.push(repository)
      continue
    }
    const [, name, level] = PERMISSION.exec(scope) ?? []
    const meant = Object.hasOwn(named, scope)
      ? Object.entries(named[scope]!)
      : name === undefined
        ? []
        : [[name, level as Level] as const]
    if (meant.length === 0) throw unavailable()
    for (const [permission, each] of meant)
      if (!Object.hasOwn(permissions, permission) || rank(each) > rank(permissions[permission]!))
        permissions[permission] = each
  }
  if (Object.keys(permissions).length === 0) throw unavailable()
  const own = ofTenant<readonly string[]>(allowed, undefined, principal.tenant)
  if (own !== undefined && repositories.some((each) => !own.includes(each))) throw unavailable()
  return { permissions, repositories: repositories.length > 0 ? repositories : own }
}

/** A name of what is asked, as part of which a token is kept: it has to fit into an index. */
const LONGEST_NAME = 200
const namedAfter = (installation: string, { permissions, repositories }: Wish): string => {
  const name = [
    installation,
    ...Object.entries(permissions)
      .map(([permission, level]) => `${permission}:${level}`)
      .toSorted(),
    ...(repositories ?? []).map((each) => `repo:${each}`).toSorted(),
  ].join(' ')
  return name.length <= LONGEST_NAME
    ? name
    : `${name.slice(0, LONGEST_NAME - 44)} ${createHash('sha256').update(name).digest('base64url')}`
}
/** Whether a token that is kept under this name is of what the file says is the tenant's installation. */
export const isOfInstallation = (
  name: string,
  { installations, installation }: DownstreamOf<'github_app'>,
  tenant: string,
): boolean => name.split(' ', 1)[0] === ofTenant(installations, installation, tenant)

/** The API that a downstream's tokens are of, and are ended at. */
export const apiOf = ({ api_url: url }: DownstreamOf<'github_app'>): string => url.replace(/\/$/, '')

/** What was issued beyond what was asked; nothing where it is no more. */
const surplusOf = (wish: Wish, answer: z.output<typeof answerSchema>): string[] => {
  const asked: Permissions = { ...ALWAYS, ...wish.permissions }
  const more = Object.entries(answer.permissions)
    .filter(([name, level]) => !Object.hasOwn(asked, name) || rank(level) > rank(asked[name]!))
    .map(([name, level]) => `${name}:${level}`)
  if (wish.repositories === undefined) return more
  // GitHub compares names without case.
  const names = new Set(wish.repositories.map((each) => each.toLowerCase()))
  const others = (answer.repositories ?? [])
    .filter(({ name }) => !names.has(name.toLowerCase()))
    .map(({ name }) => `repo:${name}`)
  return [...more, ...others, ...(answer.repository_selection === 'all' ? ['all repositories'] : [])]
}

/**
 * `github_app`: an installation token for exactly the permissions and repositories that the scopes name, by an assertion that Deputy
 * signs with the app's key
 * (https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/generating-a-json-web-token-jwt-for-a-github-app).
 * It is kept as a lease is, for all nodes, so that a revocation ends it at GitHub.
 */
export const createGitHubAppConnector = (deps: {
  readonly ask: AskProvider
  readonly resolveSecret: ResolveSecret
  readonly leases: Pick<Leases, 'obtain'>
  /** Ends tokens of an API. */
  readonly tokensAt: (api: string) => LeaseSource | undefined
  readonly clock: Clock
}): Connector => {
  const assertion = async ({ app, key, downstream }: DownstreamOf<'github_app'>, tenant: string): Promise<string> => {
    const text = await deps.resolveSecret(key, tenant)
    const now = toSeconds(deps.clock.now())
    try {
      const signing = await readSigningKey(text)
      return await new SignJWT({})
        .setProtectedHeader({ alg: 'RS256', typ: 'JWT' })
        .setIssuer(app)
        .setIssuedAt(now - BACKDATED)
        .setExpirationTime(now + ASSERTION_LIFE)
        .sign(signing.key)
    } catch {
      throw refuse('provider_refused', { provider: downstream, problem: 'the key of the app is no RSA key in PEM' })
    }
  }
  return {
    kind: 'github_app',
    async obtain(request) {
      const downstream = request.downstream as DownstreamOf<'github_app'>
      const {
        principal: { tenant },
        server,
      } = request
      const provider = downstream.downstream
      const installation = ofTenant(downstream.installations, downstream.installation, tenant)
      if (installation === undefined) throw refuse('target_unknown', { target: provider, server: server.server })
      const api = apiOf(downstream)
      const wish = wishOf(request)
      const issue = async (): Promise<MadeSecret> => {
        const answer = await deps.ask({
          provider,
          tenant,
          operation: 'installation token request',
          schema: answerSchema,
          words: (body) => wordsSchema.safeParse(body).data?.message,
          url: `${api}/app/installations/${installation}/access_tokens`,
          init: async () => ({
            method: 'POST',
            body: JSON.stringify({
              permissions: wish.permissions,
              ...(wish.repositories === undefined ? {} : { repositories: wish.repositories }),
            }),
            headers: { ...headersFor(await assertion(downstream, tenant)), 'Content-Type': 'application/json' },
          }),
        })
        const value = new Secret(answer.token)
        const lease = hashedToken(value)
        const surplus = surplusOf(wish, answer)
        if (surplus.length > 0) {
          // Nobody gets it.
          await deps
            .tokensAt(api)
            ?.end(lease, { tenant, downstream: provider, open: () => Promise.resolve(value) })
            .catch(() => undefined)
          throw refuse('scope_not_narrowable', { provider, granted: surplus.join(' '), downstream: provider })
        }
        const now = deps.clock.now()
        const endsAt = answer.expires_at === undefined ? now + UNSAID_LIFETIME : Date.parse(answer.expires_at)
        if (endsAt <= now) throw refuse('provider_refused', { provider, problem: 'it issued a token that has expired' })
        return { value, lease, duration: endsAt - now, renewable: false }
      }
      const { value, lease, expiresAt } = await deps.leases.obtain(
        leaseOwnerOf(request),
        { backend: api, role: namedAfter(installation, wish) },
        issue,
      )
      const told = Object.entries(wish.permissions)
        .map(([name, level]) => `${name}:${level}`)
        .join(' ')
      return {
        token: value,
        issuedTokenType: ACCESS_TOKEN_TYPE,
        tokenType: 'Bearer',
        scopes: request.scopes,
        overScoped: false,
        grant: lease,
        expiresAt: Math.min(expiresAt, deps.clock.now() + (downstream.lifetime ?? Infinity), request.notAfter),
        auditNote: `GitHub issued a token of the installation ${installation} for ${told} in ${wish.repositories === undefined ? 'all its repositories' : wish.repositories.join(', ')}, under the lease ${lease}.`,
      }
    },
  }
}
