import { readFile } from 'node:fs/promises'
import { decodeJwt } from 'jose'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type GitHubOAuthDouble, startGitHubOAuth } from '../doubles/github-oauth.ts'
import {
  entraOverage,
  type OpenIdSignInDouble,
  startEntraSignIn,
  startGoogleSignIn,
} from '../doubles/openid-sign-in.ts'
import { ACCESS_TOKEN, TOKEN_EXCHANGE } from '../support/daemon.ts'
import { createBrowser } from '../peers/walk.ts'
import {
  authorizationUrl,
  authorize,
  redeemCode,
  registerClient,
  startSignInWorld,
  type SignInWorld,
} from '../support/sign-in.ts'

/** A company that signs in at GitHub, one at Entra and one at Google, each with a server of its own, at one daemon. */
const tenants = ['hub', 'entra', 'google'] as const
type TenantName = (typeof tenants)[number]
const resourceOf = (tenant: TenantName): string => `https://${tenant}.example/mcp`

let world: SignInWorld
let github: GitHubOAuthDouble
let entra: OpenIdSignInDouble
let google: OpenIdSignInDouble
let client: string

/** @param claims the mapping, or the domain of the Workspace */
const openId = (tenant: string, { issuer, client: { client_id } }: OpenIdSignInDouble, claims: object | string) => ({
  tenant,
  name: `The ${tenant} company`,
  issuers: [{ issuer, claims: typeof claims === 'string' ? { tenant: { claim: 'hd', value: claims } } : claims }],
  sign_in: {
    issuer,
    client_id,
    client_secret: { file: 'secrets/openid' },
    ...(typeof claims === 'string' ? { domains: [claims] } : {}),
  },
})
const MANY = 'https://many.example/mcp'
const SHARED = 'https://shared.example/mcp'

beforeAll(async () => {
  ;[entra, google] = await Promise.all([startEntraSignIn(), startGoogleSignIn()])
  const shipped = await readFile(new URL('../../providers/github.yaml', import.meta.url), 'utf8')
  world = await startSignInWorld(async ({ port }) => {
    github = await startGitHubOAuth(`http://127.0.0.1:${port}/connect/signed-in`)
    const server = {
      owner: 'notes@company.example',
      status: 'approved',
      sign_in: 'deputy',
      attest: [{ unix: { uid: process.getuid?.() ?? 0 } }],
      downstreams: { api: { scopes: [] } },
    }
    return {
      'providers/github.yaml': shipped
        .split('sources:')[0]!
        .replaceAll('https://github.com', github.url)
        .replaceAll('https://api.github.com', `${github.url}/api`),
      'tenants/hub.yaml': {
        tenant: 'hub',
        sign_in: {
          provider: 'github',
          client_id: github.clientId,
          client_secret: { file: 'secrets/github' },
          members_of: ['acme'],
        },
      },
      'secrets/github': github.clientSecret,
      'secrets/openid': entra.client.client_secret,
      'tenants/entra.yaml': openId('entra', entra, { user: 'oid', display: 'preferred_username' }),
      'tenants/google.yaml': openId('google', google, 'acme.example'),
      // Signs in with the same client: `hd` says whose user it is.
      'tenants/west.yaml': openId('west', google, 'west.example'),
      'servers/many.yaml': { ...server, server: 'many', resource: MANY, tenants: ['hub', 'entra', 'google', 'west'] },
      'servers/shared.yaml': { ...server, server: 'shared', resource: SHARED, tenants: ['google', 'west'] },
      ...Object.fromEntries(
        tenants.map((tenant) => [
          `servers/at-${tenant}.yaml`,
          { ...server, server: `at-${tenant}`, resource: resourceOf(tenant), tenants: [tenant] },
        ]),
      ),
      'downstreams/api.yaml': { downstream: 'api', credential: 'minted', resource: 'https://api.example' },
      'policies/access/all.cedar': `permit (principal is Deputy::User, action, resource);
forbid (principal is Deputy::User, action == Deputy::Action::"minted", resource) when { principal in Deputy::Group::"entra/contractors" };`,
    }
  })
  client = await registerClient(world)
})
afterAll(async () => {
  await world?.close()
  await Promise.all([github?.close(), entra?.close(), google?.close()])
})
beforeEach(() => {
  github.userStatus = undefined
})

const signIn = async (tenant: TenantName, user: string) => {
  const parameters = { resource: resourceOf(tenant) }
  return redeemCode(world, await authorize(world, client, { user, parameters }), parameters)
}
const exchange = (tenant: TenantName, token: string) =>
  world.daemon.token({
    grant_type: TOKEN_EXCHANGE,
    client_id: `at-${tenant}`,
    subject_token: token,
    subject_token_type: ACCESS_TOKEN,
    audience: 'api',
  })

describe('GitHub, which issues no ID token', () => {
  test('a user signs in by a userinfo call: the id is the name, organizations and teams are the groups', async () => {
    github.users['mona'] = {
      id: 583231,
      orgs: ['octo', 'acme', 'hackers', 'gardeners', 'readers'],
      teams: ['acme/payroll', 'acme/it', 'octo/all'],
    }
    const tokens = await signIn('hub', 'mona')
    expect(tokens).toMatchObject({ status: 200 })
    const claims = decodeJwt(tokens.access_token!)
    expect(claims).toMatchObject({ sub: '583231', tenant: 'hub', aud: resourceOf('hub') })
    // All pages of both lists.
    expect((claims['groups'] as string[]).toSorted()).toEqual([
      'acme',
      'acme/it',
      'acme/payroll',
      'gardeners',
      'hackers',
      'octo',
      'octo/all',
      'readers',
    ])
    expect(await exchange('hub', tokens.access_token!)).toMatchObject({ status: 200 })
    const { searchParams: asked } = new URL(`http://x/?${github.asked.at(-1)!.toString()}`)
    expect(asked.get('scope')).toBe('read:user read:org')
    expect(asked.get('code_challenge_method')).toBe('S256')
    // RFC 9700 section 4.4.2.2: a provider that does not say who it is sends the browser to an address of its own.
    expect(asked.get('redirect_uri')).toBe(`${world.url}/connect/signed-in/hub`)
    expect(asked.has('resource')).toBe(false)
  })

  test('promise 5: the access token of the sign-in is ended at GitHub, and stands nowhere', async () => {
    expect(github.live.size).toBe(0)
    expect(github.ended).toHaveLength(1)
    expect(world.daemon.output()).not.toContain('gho_')
    expect(await readFile(`${world.daemon.home}/state/deputy.db`, 'latin1')).not.toContain('gho_')
  })

  test('promise 8: an account of GitHub that belongs to none of the organizations gets no further', async () => {
    github.users['mallory'] = { id: 666, orgs: ['acme-fans'], teams: ['fans/acme'] }
    await expect(signIn('hub', 'mallory')).rejects.toThrow(/none of the groups whose members may sign in/)
    expect(github.live.size).toBe(0)
  })

  test.each([401, 403, 404, 500])(
    'promise 9: a userinfo call that ends with %i ends the sign-in, with a page',
    async (status) => {
      github.userStatus = status
      await expect(signIn('hub', 'mona')).rejects.toThrow(/(refused|gave no valid answer): \/api\/user answered/)
      expect(github.live.size).toBe(0)
    },
  )

  test('promise 4: a revocation of GitHub as issuer ends what its users have', async () => {
    const tokens = await signIn('hub', 'mona')
    expect(await exchange('hub', tokens.access_token!)).toMatchObject({ status: 200 })
    const revoked = await world.daemon.deputy('revoke', '--issuer', github.url)
    expect(revoked).toMatchObject({ code: 0 })
    expect(await exchange('hub', tokens.access_token!)).toMatchObject({ status: 400 })
  })
})

describe('Entra', () => {
  test('signs users in although it refuses a foreign resource, lists no PKCE and writes a GUID into aud', async () => {
    entra.users['adele'] = {
      sub: 'pairwise-1',
      oid: 'oid-1',
      preferred_username: 'adele@acme.example',
      groups: ['g-1'],
    }
    const tokens = await signIn('entra', 'adele')
    expect(tokens).toMatchObject({ status: 200 })
    expect(decodeJwt(tokens.access_token!)).toMatchObject({ sub: 'oid-1', aud: resourceOf('entra'), groups: ['g-1'] })
    expect(entra.asked.at(-1)!.has('resource')).toBe(false)
    expect(await exchange('entra', tokens.access_token!)).toMatchObject({ status: 200 })
  })

  test('promise 1: groups that do not fit are no groups to decide by: the page, the log and deputy explain say so', async () => {
    entra.users['megan'] = entraOverage('oid-2')
    const page = await signIn('entra', 'megan').then(String, String)
    expect(page).toContain('left claims of this user out of the token (groups)')
    expect(world.daemon.output()).toContain('leaves the groups of users with many groups out')
    const { out } = await world.daemon.deputy(
      'audit',
      'query',
      '--event',
      'client.consent',
      '--user',
      'oid-2',
      '--json',
    )
    const [record] = JSON.parse(out) as { record: { id: string } }[]
    const explained = await world.daemon.deputy('explain', record!.record.id)
    expect(explained.out).toContain('left claims of this user out of the token (groups)')
  })
})

describe('Google', () => {
  test('signs users of the Workspace domain in: no groups, opaque access tokens', async () => {
    google.users['ada'] = { sub: '110169484474386276334', hd: 'acme.example', email: 'ada@acme.example' }
    const tokens = await signIn('google', 'ada')
    expect(tokens).toMatchObject({ status: 200 })
    expect(decodeJwt(tokens.access_token!)).toMatchObject({
      sub: '110169484474386276334',
      tenant: 'google',
      groups: [],
    })
    expect(await exchange('google', tokens.access_token!)).toMatchObject({ status: 200 })
  })

  test('promise 8: an account of another domain, or of none, is not the tenant’s', async () => {
    google.users['eve'] = { sub: '2', hd: 'evil.example', email: 'eve@acme.example' }
    google.users['consumer'] = { sub: '3', email: 'someone@gmail.com' }
    for (const user of ['eve', 'consumer']) await expect(signIn('google', user)).rejects.toThrow(/sign-in of/)
  })
})

describe('several tenants at one server', () => {
  const open = async (parameters: Record<string, string> = {}) => {
    const browser = createBrowser()
    return { browser, page: await browser.open(authorizationUrl(world, client, { resource: MANY, ...parameters }).url) }
  }

  test('promise 8: where tenants have domains, the page asks for the address and names no tenant', async () => {
    const { browser, page } = await open()
    expect(page.body).toContain('E-mail address')
    expect(page.body).not.toMatch(/google|west|entra|hub|company/i)
    const unknown = await browser.submit(page, { email: 'eve@elsewhere.example' })
    // Tenants without domains are the rest: they are named, those with domains are not.
    expect(unknown.body).toContain('The entra company')
    expect(unknown.body).not.toMatch(/google|west/i)
    const chosen = await browser.open(`${page.url}?tenant=west`)
    expect(chosen).toMatchObject({ status: 400 })
    expect(chosen.body).toContain('no organization signs in at this server')
  })

  test('the domain of the address, typed or named by the client, leads to the identity provider of its tenant', async () => {
    const { browser, page } = await open()
    const typed = await browser.submit(page, { email: ' Ada@ACME.example ' })
    // A redirect from the answer to a form would be held to `form-action`, which names no identity provider.
    const onward = /content="0;url=([^"]+)"/.exec(typed.body)![1]!.replaceAll('&amp;', '&')
    expect(onward).toContain(`${google.issuer}/authorize`)
    await browser.open(onward)
    expect(google.asked.at(-1)!.get('login_hint')).toBe('Ada@ACME.example')
    const hinted = await open({ login_hint: 'zoe@west.example' })
    expect(hinted.page.url).toContain(`${google.issuer}/authorize`)
  })

  test('promise 8: tenants that share a client: the verified sign-in says whose user it is, whatever was typed', async () => {
    google.users['zoe'] = { sub: '77', hd: 'west.example' }
    const parameters = { resource: SHARED }
    // One identity provider, and so no question before the sign-in.
    const tokens = await redeemCode(world, await authorize(world, client, { user: 'zoe', parameters }), parameters)
    expect(decodeJwt(tokens.access_token!)).toMatchObject({ sub: '77', tenant: 'west' })
    google.users['eve'] = { sub: '2', hd: 'evil.example' }
    await expect(authorize(world, client, { user: 'eve', parameters })).rejects.toThrow(/sign-in of/)
    // A token of one tenant is not one of the other, at a server that serves only that one.
    const crossing = await world.daemon.token({
      grant_type: TOKEN_EXCHANGE,
      client_id: 'at-google',
      subject_token: tokens.access_token!,
      subject_token_type: ACCESS_TOKEN,
      audience: 'api',
    })
    expect(crossing.status).toBe(400)
  })
})
