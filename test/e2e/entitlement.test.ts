/** Fault 10: whatever the files or the admin take away, every part of Deputy that is asked says so. */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { inflateSync } from 'node:zlib'
import { decodeJwt } from 'jose'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parse, stringify } from 'yaml'
import { startWorld, type World } from '../../quickstart/world.ts'
import { createBrowser, type Browser, type Page } from '../peers/walk.ts'
import { aCompany, RESOURCES } from '../support/configuration.ts'
import {
  ACCESS_TOKEN,
  ask,
  startDaemonHere,
  startTestIssuer,
  TOKEN_EXCHANGE,
  type RunningDaemon,
  type TestIssuer,
} from '../support/daemon.ts'
import { exchangeToken } from '../support/exchange-client.ts'

type Deputy = (...args: string[]) => Promise<{ code: number; out: string; err: string }>
interface Place {
  readonly home: string
  readonly deputy: Deputy
}

/** Changes a file of the configuration, and has the daemon take it. @returns what puts it back */
const edit = async ({ home, deputy }: Place, path: string, change: (file: Record<string, unknown>) => object) => {
  const file = join(home, path)
  const before = await readFile(file, 'utf8')
  const put = async (text: string): Promise<void> => {
    await writeFile(file, text, { mode: 0o600 })
    const { code, out } = await deputy('reload')
    expect([code, code === 0 ? '' : out]).toEqual([0, ''])
  }
  await put(stringify(change(parse(before) as Record<string, unknown>)))
  return () => put(before)
}

const without = (id: string) => (file: Record<string, unknown>) => {
  const { [id]: _, ...downstreams } = file['downstreams'] as Record<string, unknown>
  return { ...file, downstreams, tools: {} }
}

/** What is taken away. @returns what gives it back */
const takings = (server: string, downstream: string, user: string) =>
  ({
    'the downstream from the server': (place: Place) => edit(place, `servers/${server}.yaml`, without(downstream)),
    'the tenant from the server': (place: Place) =>
      edit(place, `servers/${server}.yaml`, (file) => ({ ...file, tenants: ['globex'] })),
    'the tenant from the downstream': (place: Place) =>
      edit(place, `downstreams/${downstream}.yaml`, (file) => ({ ...file, tenants: ['globex'] })),
    'the downstream': (place: Place) =>
      edit(place, `downstreams/${downstream}.yaml`, (file) => ({ ...file, enabled: false })),
    'the server': (place: Place) => edit(place, `servers/${server}.yaml`, (file) => ({ ...file, status: 'retired' })),
    'the tenant': (place: Place) => edit(place, 'tenants/acme.yaml', (file) => ({ ...file, enabled: false })),
    'the tenant, frozen,': async ({ deputy }: Place) => {
      expect((await deputy('tenant', 'freeze', '--tenant', 'acme')).code).toBe(0)
      return async () => {
        await deputy('tenant', 'thaw', '--tenant', 'acme')
      }
    },
    'the user': async ({ deputy }: Place) => {
      expect((await deputy('user', 'disable', '--tenant', 'acme', '--user', user)).code).toBe(0)
      return async () => {
        await deputy('user', 'enable', '--tenant', 'acme', '--user', user)
      }
    },
  }) satisfies Record<string, (place: Place) => Promise<() => Promise<unknown>>>
type Taken = keyof ReturnType<typeof takings>
const TAKEN = Object.keys(takings('', '', '')) as Taken[]
/** The user's own token at the server is for no downstream. */
const OF_DOWNSTREAM: ReadonlySet<Taken> = new Set<Taken>([
  'the downstream from the server',
  'the tenant from the downstream',
  'the downstream',
])

describe('at the local API', () => {
  let issuer: TestIssuer
  let daemon: RunningDaemon
  beforeAll(async () => {
    issuer = await startTestIssuer()
    daemon = await startDaemonHere(
      aCompany({
        issuer: issuer.url,
        notes: { tools: { read: { downstream: 'ledger', scopes: ['ledger:read'] } } },
      }),
    )
  })
  afterAll(async () => {
    await daemon?.close()
    await issuer?.close()
  })

  const post = async (path: string, form: Record<string, string>) =>
    ask(
      { socketPath: daemon.socketPath },
      {
        path,
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
        body: new URLSearchParams(form).toString(),
      },
    )
  const exchange = (subject: string) =>
    daemon.token({
      grant_type: TOKEN_EXCHANGE,
      subject_token: subject,
      subject_token_type: ACCESS_TOKEN,
      audience: 'ledger',
      scope: 'ledger:read',
    })
  const bitOf = async (token: string): Promise<number> => {
    const { uri, idx } = (decodeJwt(token)['status'] as { status_list: { uri: string; idx: number } }).status_list
    // A list may be kept for half a second.
    for (let at = 0; ; at += 1) {
      const { text } = await ask({ port: daemon.port }, { path: new URL(uri).pathname })
      const { lst } = decodeJwt(text)['status_list'] as { lst: string }
      const bit = (inflateSync(Buffer.from(lst, 'base64url'))[idx >> 3]! >> (idx & 7)) & 1
      if (bit === 1 || at === 8) return bit
      await new Promise((resolve) => {
        setTimeout(resolve, 100)
      })
    }
  }

  it.each(TAKEN)(
    'fault 10, threat 15: once %s is taken away, the exchange, introspection and the status list say so',
    async (taken) => {
      const subject = await issuer.sign({ aud: RESOURCES.notes, org: 'acme' })
      const { body } = await exchange(subject)
      const minted = String(body['access_token'])
      // A server that is retired may ask nothing at all.
      const answers = async () => ({
        exchange: (await exchange(subject)).status === 200,
        introspection: (await post('/oauth2/introspect', { token: minted })).body['active'] ?? false,
        subject: (await post('/oauth2/introspect', { token: subject })).body['active'] ?? false,
        status: (await bitOf(minted)) === 0,
      })
      const giveBack = await takings('notes', 'ledger', 'alice')[taken]({ home: daemon.home, deputy: daemon.deputy })
      try {
        expect(await answers()).toEqual({
          exchange: false,
          introspection: false,
          subject: OF_DOWNSTREAM.has(taken),
          status: false,
        })
      } finally {
        await giveBack()
      }
      expect(await answers()).toMatchObject({ exchange: true, introspection: true, subject: true })
    },
  )
})

describe('on the connect pages', () => {
  let world: World
  beforeAll(async () => {
    world = await startWorld(() => {}, { servers: false })
    await writeFile(
      join(world.home, 'tenants/globex.yaml'),
      (await readFile(join(world.home, 'tenants/acme.yaml'), 'utf8')).replaceAll('acme', 'globex'),
      { mode: 0o600 },
    )
    await edit(world, 'tenants/globex.yaml', ({ tenant }) => ({ tenant }))
    for (const server of ['notes', 'calendar'])
      await edit(world, `servers/${server}.yaml`, (file) => ({ ...file, tenants: ['acme', 'globex'] }))
  })
  afterAll(async () => {
    await world?.close()
  })

  const linkFor = async (user: string): Promise<string> => {
    const config = JSON.parse(await readFile(join(world.home, 'notes-server.json'), 'utf8')) as Parameters<
      typeof exchangeToken
    >[0]
    const accessToken = await world.token(user, 'notes')
    const { body } = await exchangeToken(config, {
      userToken: accessToken,
      downstream: 'notes-api',
      scope: 'notes:read',
      tool: 'list_notes',
    })
    return String(body['connect_url'])
  }
  /** As far as the page on which the user allows the server's access. */
  const upToConsent = async (browser: Browser, link: string, user: string): Promise<Page> => {
    let page = await browser.open(link)
    for (let at = 0; at < 3 && page.url.startsWith(world.idp.url); at += 1)
      page = page.body.includes('name="login"')
        ? await browser.submit(page, { login: user })
        : await browser.submit(page, { decision: 'allow' })
    return page
  }
  const grants = async (): Promise<unknown> => JSON.parse((await world.deputy('grant', 'list', '--json')).out)

  it.each(TAKEN)(
    'fault 10, threat 15: once %s is taken away, the link opens nothing and consent stores no grant',
    async (taken) => {
      const take = takings('notes', 'notes-api', 'alice')[taken]
      const before = await linkFor('alice')
      let giveBack = await take(world)
      try {
        expect((await createBrowser().open(before)).status).toBeGreaterThanOrEqual(400)
      } finally {
        await giveBack()
      }
      const browser = createBrowser()
      const consent = await upToConsent(browser, await linkFor('alice'), 'alice')
      expect(consent.body).toContain('Read your notes')
      giveBack = await take(world)
      try {
        expect((await browser.submit(consent, { decision: 'allow' })).status).toBeGreaterThanOrEqual(400)
      } finally {
        await giveBack()
      }
      expect(await grants()).toEqual([])
    },
  )
})
