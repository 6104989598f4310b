import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { SIGN_IN_CLIENT, startCompanyIdp, type CompanyIdp } from '../peers/company-idp.ts'
import { PASSWORD } from '../peers/openid-server.ts'
import { createBrowser, type Browser, type Page } from '../peers/walk.ts'
import { aCompany, RESOURCES } from '../support/configuration.ts'
import { startDaemonHere, TOKEN_EXCHANGE, type Answer, type RunningDaemon } from '../support/daemon.ts'
import { CLI, freePort, runCli } from '../support/process.ts'

let idp: CompanyIdp
let daemon: RunningDaemon

beforeAll(async () => {
  const port = await freePort()
  idp = await startCompanyIdp({
    resources: [RESOURCES.notes],
    device: true,
    redirectUris: [`http://127.0.0.1:${port}/connect/signed-in`],
  })
  daemon = await startDaemonHere(
    {
      ...aCompany({ issuer: idp.issuer, notes: { login_session: true } }),
      'tenants/acme.yaml': {
        tenant: 'acme',
        issuers: [{ issuer: idp.issuer, claims: { display: 'email' } }],
        sign_in: {
          issuer: idp.issuer,
          client_id: SIGN_IN_CLIENT.client_id,
          client_secret: { file: 'sign-in' },
          scopes: ['openid', 'email'],
          device: true,
        },
      },
      'tenants/globex.yaml': { tenant: 'globex' },
      'sign-in': SIGN_IN_CLIENT.client_secret,
    },
    {
      issuer: `http://127.0.0.1:${port}`,
      connect_url: `http://127.0.0.1:${port}`,
      listen: { connect: `127.0.0.1:${port}` },
    },
  )
})
afterAll(async () => {
  await daemon?.close()
  await idp?.close()
})

const exchange = (): Promise<Answer> =>
  daemon.token({
    grant_type: TOKEN_EXCHANGE,
    subject_token: 'current',
    subject_token_type: 'urn:deputy:params:oauth:token-type:login-session',
    audience: 'ledger',
    scope: 'ledger:read',
  })

/** Runs `deputy login` and hands its link to the browser that walks it. */
const login = async (
  walk: (url: string, err: string) => Promise<void>,
  ...options: string[]
): Promise<{ code: number; out: string; err: string }> => {
  const child = spawn(
    process.execPath,
    [CLI, 'login', '--tenant', 'acme', '--no-browser', '--json', '--home', daemon.home, ...options],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  )
  let [out, err] = ['', '']
  child.stdout.on('data', (chunk: Buffer) => {
    out += chunk.toString('utf8')
  })
  child.stderr.on('data', (chunk: Buffer) => {
    err += chunk.toString('utf8')
  })
  await expect.poll(() => /http:\S+/.exec(err)?.[0]).toBeDefined()
  await walk(/http:\S+/.exec(err)![0], err)
  const exited = once(child, 'exit') as Promise<[number]>
  const timer = setTimeout(() => {
    child.kill('SIGKILL')
  }, 5000)
  const [code] = await exited
  clearTimeout(timer)
  return { code, out, err }
}

const signedIn = async (browser: Browser, url: string, user: string): Promise<Page> => {
  let page = await browser.open(url)
  for (let at = 0; at < 3 && page.url.startsWith(idp.url); at += 1)
    page = page.body.includes('name="login"')
      ? await browser.submit(page, { login: user, password: PASSWORD })
      : await browser.submit(page, { decision: 'allow' })
  return page
}

describe('deputy login', () => {
  it('fault 72: lets a server of this Unix user act for who signed in, until logout, and names the user by the claim that people know', async () => {
    expect((await exchange()).body['reason']).toBe('subject_session_missing')
    const { code, out } = await login(async (url) => {
      const browser = createBrowser()
      const page = await signedIn(browser, url, 'alice')
      expect(page.body).toContain(String(process.getuid!()))
      // Fault 72: where users are ids, people see whom they know beside it.
      expect(page.body).toContain('alice@company.example, alice')
      const done = await browser.submit(page, { decision: 'allow' })
      expect(done.body).toContain('Signed in')
      expect(done.body).toContain('acts as alice@company.example, alice until')
    })
    expect([code, JSON.parse(out)]).toMatchObject([0, { signed_in: true, tenant: 'acme', user: 'alice' }])
    expect((await exchange()).status).toBe(200)
    expect((await runCli(daemon.home, ['logout'])).code).toBe(0)
    expect((await exchange()).body['reason']).toBe('subject_session_missing')
  })

  it('an earlier session is not taken for the sign-in that was asked for', async () => {
    const allow = async (url: string): Promise<void> => {
      const browser = createBrowser()
      await browser.submit(await signedIn(browser, url, 'alice'), { decision: 'allow' })
    }
    expect((await login(allow)).code).toBe(0)
    const again = await login(async (url) => {
      // Long enough for the command to look at the session that exists.
      await new Promise((resolve) => setTimeout(resolve, 1500))
      const browser = createBrowser()
      await browser.submit(await signedIn(browser, url, 'bob'), { decision: 'allow' })
    })
    expect([again.code, JSON.parse(again.out)]).toMatchObject([0, { user: 'bob' }])
    expect((await runCli(daemon.home, ['logout'])).code).toBe(0)
  })

  it('threat 11: signs nobody in who does not say so on the page that names the Unix user', async () => {
    const { code } = await login(async (url) => {
      const browser = createBrowser()
      const page = await signedIn(browser, url, 'bob')
      // Another browser cannot confirm in the place of the one that signed in.
      expect((await createBrowser().submit(page, { decision: 'allow' })).status).toBe(400)
      const again = await signedIn(createBrowser(), url, 'bob')
      expect((await browser.submit(again, { decision: 'deny' })).status).toBe(400)
    })
    expect(code).not.toBe(0)
    expect((await exchange()).body['reason']).toBe('subject_session_missing')
  })

  it('promise 4: a revocation of the user ends the session', async () => {
    await login(async (url) => {
      const browser = createBrowser()
      await browser.submit(await signedIn(browser, url, 'alice'), { decision: 'allow' })
    })
    expect((await exchange()).status).toBe(200)
    expect((await runCli(daemon.home, ['revoke', '--tenant', 'acme', '--user', 'alice', '--json'])).code).toBe(0)
    expect((await exchange()).status).toBe(400)
  })
})

describe('deputy login --device', () => {
  /** Types the code at the identity provider, on another device. */
  const approve = async (url: string, told: string, user: string, decision: 'allow' | 'deny') => {
    const browser = createBrowser()
    const code = /type the code (\S+)/.exec(told)![1]!
    const confirm = await browser.submit(await browser.open(url), { user_code: code })
    let page = await browser.submit(confirm)
    for (let at = 0; at < 3 && /<form/.test(page.body); at += 1)
      page = await browser.submit(
        page,
        page.body.includes('name="login"') ? { login: user, password: PASSWORD } : { decision },
      )
  }

  it("signs the Unix user that asked in with the identity provider's code, and says for whom", async () => {
    const { code, out, err } = await login((url, told) => approve(url, told, 'alice', 'allow'), '--device')
    expect(err).toContain('Programs of this Unix user then act as the person who signs in there.')
    expect([code, JSON.parse(out)]).toMatchObject([0, { signed_in: true, tenant: 'acme', user: 'alice' }])
    expect((await exchange()).status).toBe(200)
    const records = await runCli(daemon.home, ['audit', 'query', '--event', 'login', '--limit', '1', '--json'])
    expect(records.out).toMatch(/"device": ?true/)
    expect((await runCli(daemon.home, ['logout'])).code).toBe(0)
  })

  it('signs in no person who denies it, and none whom an admin has disabled meanwhile', async () => {
    const denied = await login((url, told) => approve(url, told, 'bob', 'deny'), '--device')
    expect([denied.code, denied.err]).toMatchObject([1, expect.stringContaining('not completed')])
    const disabled = await login(async (url, told) => {
      await runCli(daemon.home, ['user', 'disable', 'bob', '--tenant', 'acme', '--force'])
      await approve(url, told, 'bob', 'allow')
    }, '--device')
    expect([disabled.code, disabled.err]).toMatchObject([1, expect.stringContaining('disabled')])
    expect((await exchange()).body['reason']).toBe('subject_session_missing')
  })

  it('refuses it for a tenant whose file does not allow it', async () => {
    const refused = await runCli(daemon.home, ['login', '--tenant', 'globex', '--device'])
    expect([refused.code, refused.err]).toMatchObject([
      expect.any(Number),
      expect.stringContaining('sign_in.device: true'),
    ])
    expect(refused.code).not.toBe(0)
  })
})
