import { SignJWT } from 'jose'
import { z } from 'zod'
import { toSeconds, type Clock } from '../clock.ts'
import type { DownstreamOf } from '../config/downstream.ts'
import { Secret } from '../crypto/secret.ts'
import { DeputyError, refuse } from '../errors.ts'
import type { ResolveSecret } from '../secret/reference.ts'
import { ACCESS_TOKEN_TYPE, type Connector, type CredentialRequest } from './connector.ts'
import type { AskProvider } from './provider/ask.ts'
import { readSigningKey } from './provider/authentication.ts'
import { UNSAID_LIFETIME } from './provider/token-request.ts'

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
  token: z.string().min(1), expires_at: z.iso.datetime({ offset: true }).optional(), permissions: z.record(z.string(), z.enum(LEVELS)).default({}),
  repository_selection: z.enum(['all', 'selected']).optional(), repositories: z.array(z.object({ name: z.string() })).optional(),
})
const wordsSchema = z.object({ message: z.string() })

interface Wish { readonly permissions: Permissions; readonly repositories: readonly string[] | undefined }

/**
 * What the scopes stand for at GitHub. A request that names no permission would be one for all that the installation has, so there
 * is none.
 * @throws DeputyError `scope_not_available`
 */
const wishOf = ({ downstream, scopes, principal, server }: CredentialRequest): Wish => {
  const { permissions: named, repositories: allowed, downstream: id } = downstream as DownstreamOf<'github_app'>
  const permissions: Record<string, Level> = {}
  const repositories: string[] = []
  const unavailable = (): DeputyError => refuse('scope_not_available', { scopes: scopes.join(' '), server: server.server, downstream: id })
  for (const scope of scopes) {
    const repository = Object.hasOwn(named, scope) ? undefined : REPOSITORY.exec(scope)?.[1]
    if (repository !== undefined) { repositories.push(repository); continue }
    const [, name, level] = PERMISSION.exec(scope) ?? []
    const meant = Object.hasOwn(named, scope) ? Object.entries(named[scope]!) : name === undefined ? [] : [[name, level as Level] as const]
    if (meant.length === 0) throw unavailable()
    for (const [permission, each] of meant) if (permissions[permission] === undefined || rank(each) > rank(permissions[permission])) permissions[permission] = each
  }
  if (Object.keys(permissions).length === 0) throw unavailable()
  const own = Object.hasOwn(allowed, principal.tenant) ? allowed[principal.tenant] : undefined
  if (own !== undefined && repositories.some((each) => !own.includes(each))) throw unavailable()
  return { permissions, repositories: repositories.length > 0 ? repositories : own }
}

/** What was issued beyond what was asked; nothing where it is no more. */
const surplusOf = (wish: Wish, answer: z.output<typeof answerSchema>): string[] => {
  const asked: Permissions = { ...ALWAYS, ...wish.permissions }
  const more = Object.entries(answer.permissions).filter(([name, level]) => !Object.hasOwn(asked, name) || rank(level) > rank(asked[name]!)).map(([name, level]) => `${name}:${level}`)
  if (wish.repositories === undefined) return more
  // GitHub compares names without case.
  const names = new Set(wish.repositories.map((each) => each.toLowerCase()))
  const others = (answer.repositories ?? []).filter(({ name }) => !names.has(name.toLowerCase())).map(({ name }) => `repo:${name}`)
  return [...more, ...others, ...(answer.repository_selection === 'all' ? ['all repositories'] : [])]
}

/**
 * `github_app`: an installation token for exactly the permissions and repositories that the scopes name, by an assertion that Deputy
 * signs with the app's key
 * (https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/generating-a-json-web-token-jwt-for-a-github-app).
 */
export const createGitHubAppConnector = (deps: { readonly ask: AskProvider; readonly resolveSecret: ResolveSecret; readonly clock: Clock }): Connector => {
  const assertion = async ({ app, key, downstream }: DownstreamOf<'github_app'>, tenant: string): Promise<string> => {
    const text = await deps.resolveSecret(key, tenant)
    const now = toSeconds(deps.clock.now())
    try {
      const signing = await readSigningKey(text)
      return await new SignJWT({}).setProtectedHeader({ alg: 'RS256', typ: 'JWT' }).setIssuer(app).setIssuedAt(now - BACKDATED).setExpirationTime(now + ASSERTION_LIFE).sign(signing.key)
    } catch { throw refuse('provider_refused', { provider: downstream, problem: 'the key of the app is no RSA key in PEM' }) }
  }
  return {
    kind: 'github_app',
    async obtain(request) {
      const downstream = request.downstream as DownstreamOf<'github_app'>
      const { tenant } = request.principal
      const provider = downstream.downstream
      const installation = Object.hasOwn(downstream.installations, tenant) ? downstream.installations[tenant] : downstream.installation
      if (installation === undefined) throw refuse('target_unknown', { target: provider, server: request.server.server })
      const wish = wishOf(request)
      const answer = await deps.ask({
        provider, tenant, operation: 'installation token request', schema: answerSchema, words: (body) => wordsSchema.safeParse(body).data?.message,
        url: `${downstream.api_url.replace(/\/$/, '')}/app/installations/${installation}/access_tokens`,
        init: async () => ({
          method: 'POST', body: JSON.stringify({ permissions: wish.permissions, ...(wish.repositories === undefined ? {} : { repositories: wish.repositories }) }),
          headers: { 'Accept': 'application/vnd.github+json', 'Authorization': `Bearer ${await assertion(downstream, tenant)}`, 'Content-Type': 'application/json', 'User-Agent': 'deputy', 'X-GitHub-Api-Version': '2022-11-28' },
        }),
      })
      const surplus = surplusOf(wish, answer)
      if (surplus.length > 0) throw refuse('scope_not_narrowable', { provider, granted: surplus.join(' '), downstream: downstream.downstream })
      const now = deps.clock.now()
      const endsAt = answer.expires_at === undefined ? now + UNSAID_LIFETIME : Date.parse(answer.expires_at)
      if (endsAt <= now) throw refuse('provider_refused', { provider, problem: 'it issued a token that has expired' })
      const told = Object.entries(wish.permissions).map(([name, level]) => `${name}:${level}`).join(' ')
      return {
        token: new Secret(answer.token), issuedTokenType: ACCESS_TOKEN_TYPE, tokenType: 'Bearer', scopes: request.scopes, wider: false,
        expiresAt: Math.min(endsAt, now + (downstream.lifetime ?? Infinity), request.notAfter),
        story: `GitHub issued a token of the installation ${installation} for ${told} in ${wish.repositories === undefined ? 'all its repositories' : wish.repositories.join(', ')}.`,
      }
    },
  }
}
