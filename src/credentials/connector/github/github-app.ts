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
import { DEFAULT_LIFETIME_MS } from '../token-endpoint/token-request.ts'

const LEVELS = ['read', 'write', 'admin'] as const
type Level = (typeof LEVELS)[number]
type Permissions = Readonly<Record<string, Level>>
const rank = (level: Level): number => LEVELS.indexOf(level)

const REPOSITORY = /^repo:([A-Za-z0-9._-]{1,100})$/
const PERMISSION = /^([a-z_]{1,64}):(read|write|admin)$/

/** Every token can read a repository's metadata: GitHub adds this permission without being asked. */
const ALWAYS: Permissions = { metadata: 'read' }

/** GitHub accepts an app's assertion of at most ten minutes; it begins a minute ago because clocks differ (seconds). */
const [BACKDATED_S, ASSERTION_LIFE_S] = [60, 540]

/** https://docs.github.com/en/rest/apps/apps#create-an-installation-access-token-for-an-app */
const answerSchema = z.object({
  token: z.string().min(1),
  expires_at: z.iso.datetime({ offset: true }).optional(),
  permissions: z.record(z.string(), z.enum(LEVELS)).default({}),
  repository_selection: z.enum(['all', 'selected']).optional(),
  repositories: z.array(z.object({ name: z.string() })).optional(),
})
const wordsSchema = z.object({ message: z.string() })

interface TokenRequest {
  readonly permissions: Permissions
  readonly repositories: readonly string[] | undefined
}

/**
 * The permissions and repositories that the scopes mean. A request without a permission would ask GitHub for all permissions of
 * the installation, so Deputy sends none.
 * @throws DeputyError `scope_not_available`
 */
const tokenRequestOf = ({ downstream, scopes, principal, server }: CredentialRequest): TokenRequest => {
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

/** The longest role under which a token's lease is stored: it has to fit into an index. */
const MAX_NAME_LENGTH = 200
const namedAfter = (installation: string, { permissions, repositories }: TokenRequest): string => {
  const name = [
    installation,
    ...Object.entries(permissions)
      .map(([permission, level]) => `${permission}:${level}`)
      .toSorted(),
    ...(repositories ?? []).map((each) => `repo:${each}`).toSorted(),
  ].join(' ')
  return name.length <= MAX_NAME_LENGTH
    ? name
    : `${name.slice(0, MAX_NAME_LENGTH - 44)} ${createHash('sha256').update(name).digest('base64url')}`
}
/** Whether a lease of this role belongs to the installation that the file names for the tenant. */
export const isOfInstallation = (
  name: string,
  { installations, installation }: DownstreamOf<'github_app'>,
  tenant: string,
): boolean => name.split(' ', 1)[0] === ofTenant(installations, installation, tenant)

/** The API that issues a downstream's tokens, and ends them. */
export const apiOf = ({ api_url: url }: DownstreamOf<'github_app'>): string => url.replace(/\/$/, '')

/** Permissions and repositories that were issued and not asked for. */
const surplusOf = (wanted: TokenRequest, answer: z.output<typeof answerSchema>): string[] => {
  const asked: Permissions = { ...ALWAYS, ...wanted.permissions }
  const more = Object.entries(answer.permissions)
    .filter(([name, level]) => !Object.hasOwn(asked, name) || rank(level) > rank(asked[name]!))
    .map(([name, level]) => `${name}:${level}`)
  if (wanted.repositories === undefined) return more
  // GitHub compares names without case.
  const names = new Set(wanted.repositories.map((each) => each.toLowerCase()))
  const others = (answer.repositories ?? [])
    .filter(({ name }) => !names.has(name.toLowerCase()))
    .map(({ name }) => `repo:${name}`)
  return [...more, ...others, ...(answer.repository_selection === 'all' ? ['all repositories'] : [])]
}

interface GitHubAppDependencies {
  readonly ask: AskProvider
  readonly resolveSecret: ResolveSecret
  readonly leases: Pick<Leases, 'obtain'>
  /** Ends tokens of an API. */
  readonly tokensAt: (api: string) => LeaseSource | undefined
  readonly clock: Clock
}

/** The app's assertion (https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/generating-a-json-web-token-jwt-for-a-github-app). */
const assertionOf = async (
  deps: GitHubAppDependencies,
  { app, key, downstream }: DownstreamOf<'github_app'>,
  tenant: string,
): Promise<string> => {
  const text = await deps.resolveSecret(key, tenant)
  const now = toSeconds(deps.clock.now())
  try {
    const signing = await readSigningKey(text)
    return await new SignJWT({})
      .setProtectedHeader({ alg: 'RS256', typ: 'JWT' })
      .setIssuer(app)
      .setIssuedAt(now - BACKDATED_S)
      .setExpirationTime(now + ASSERTION_LIFE_S)
      .sign(signing.key)
  } catch {
    throw refuse('provider_refused', { provider: downstream, problem: 'the key of the app is no RSA key in PEM' })
  }
}

/** Has GitHub issue a token. One for more than was asked is ended at once. */
const issueToken = async (
  deps: GitHubAppDependencies,
  request: CredentialRequest,
  installation: string,
  wanted: TokenRequest,
): Promise<MadeSecret> => {
  const downstream = request.downstream as DownstreamOf<'github_app'>
  const { tenant } = request.principal
  const { downstream: provider } = downstream
  const api = apiOf(downstream)
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
        permissions: wanted.permissions,
        ...(wanted.repositories === undefined ? {} : { repositories: wanted.repositories }),
      }),
      headers: { ...headersFor(await assertionOf(deps, downstream, tenant)), 'Content-Type': 'application/json' },
    }),
  })
  const value = new Secret(answer.token)
  const lease = hashedToken(value)
  const surplus = surplusOf(wanted, answer)
  if (surplus.length > 0) {
    await deps
      .tokensAt(api)
      ?.end(lease, { tenant, downstream: provider, open: () => Promise.resolve(value) })
      .catch(() => undefined)
    throw refuse('scope_not_narrowable', { provider, granted: surplus.join(' '), downstream: provider })
  }
  const now = deps.clock.now()
  const endsAt = answer.expires_at === undefined ? now + DEFAULT_LIFETIME_MS : Date.parse(answer.expires_at)
  if (endsAt <= now) throw refuse('provider_refused', { provider, problem: 'it issued a token that has expired' })
  return { value, lease, duration: endsAt - now, renewable: false }
}

const noteOf = (installation: string, { permissions, repositories }: TokenRequest, lease: string): string => {
  const levels = Object.entries(permissions).map(([name, level]) => `${name}:${level}`)
  const where = repositories === undefined ? 'all its repositories' : repositories.join(', ')
  return `GitHub issued a token of the installation ${installation} for ${levels.join(' ')} in ${where}, under the lease ${lease}.`
}

/**
 * `github_app`: an installation token for exactly the permissions and repositories that the scopes name, by an assertion that
 * Deputy signs with the app's key. It is stored as a lease, for all nodes, so that a revocation ends it at GitHub.
 */
export const createGitHubAppConnector = (deps: GitHubAppDependencies): Connector => ({
  kind: 'github_app',
  async obtain(request) {
    const downstream = request.downstream as DownstreamOf<'github_app'>
    const installation = ofTenant(downstream.installations, downstream.installation, request.principal.tenant)
    if (installation === undefined)
      throw refuse('target_unknown', { target: downstream.downstream, server: request.server.server })
    const wanted = tokenRequestOf(request)
    const { value, lease, expiresAt } = await deps.leases.obtain(
      leaseOwnerOf(request),
      { backend: apiOf(downstream), role: namedAfter(installation, wanted) },
      () => issueToken(deps, request, installation, wanted),
    )
    return {
      token: value,
      issuedTokenType: ACCESS_TOKEN_TYPE,
      tokenType: 'Bearer',
      scopes: request.scopes,
      overScoped: false,
      grant: lease,
      expiresAt: Math.min(expiresAt, deps.clock.now() + (downstream.lifetime ?? Infinity), request.notAfter),
      auditNote: noteOf(installation, wanted, lease),
    }
  },
})
