import { chmod, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startWorld, type World } from '../../quickstart/world.ts'
import { createBrowser } from '../peers/walk.ts'
import { aCompany } from '../support/configuration.ts'
import { ask, startDaemonHere, type RunningDaemon } from '../support/daemon.ts'
import { freePort } from '../support/process.ts'

let daemon: RunningDaemon
let metrics: number
beforeAll(async () => {
  metrics = await freePort()
  daemon = await startDaemonHere(
    {
      ...aCompany({ issuer: 'https://idp.example' }),
      'secrets/own': 'a-secret',
      'providers/own.yaml': {
        provider: 'own',
        name: 'Own',
        token_endpoint: 'https://own.example/token',
      },
      'downstreams/own.yaml': {
        downstream: 'own',
        credential: 'client_credentials',
        provider: 'own',
        client: { client_id: 'x', client_secret: { file: 'secrets/own' } },
      },
    },
    { listen: { metrics: `127.0.0.1:${metrics}` } },
  )
})
afterAll(async () => {
  await daemon?.close()
})

const gauge = async (): Promise<string | undefined> => {
  const { text } = await ask({ port: metrics }, { path: '/metrics' })
  return /^deputy_configuration_refused\S* (\d)/m.exec(text)?.[1]
}
const generation = async (): Promise<number> =>
  (JSON.parse((await daemon.deputy('status', '--json')).out) as { generation: number }).generation
/** Waits until the daemon has read the files again by itself. */
const readAgain = async (after: number): Promise<void> => {
  await expect.poll(generation, { timeout: 20_000, interval: 50 }).toBeGreaterThan(after)
}

describe('what the daemon says of its files', () => {
  it('fault 32: status and a gauge say that the folder was refused, until it is in order', async () => {
    expect((await daemon.deputy('status')).code).toBe(0)
    expect(await gauge()).toBe('0')
    await daemon.write({ 'tenants/third.yaml': 'tenant: Third\n' })
    expect((await daemon.deputy('reload')).code).toBe(3)
    const { code, out } = await daemon.deputy('status')
    expect([code, out]).toEqual([3, expect.stringMatching(/configuration: tenants\/third\.yaml:1: tenant/)])
    expect(await gauge()).toBe('1')
    await rm(join(daemon.home, 'tenants/third.yaml'))
    expect((await daemon.deputy('reload')).code).toBe(0)
    expect((await daemon.deputy('status')).code).toBe(0)
    expect(await gauge()).toBe('0')
  })

  it('fault 29: check and status see a secret that others can read, and one that is missing', async () => {
    const secret = join(daemon.home, 'secrets/own')
    await chmod(secret, 0o644)
    expect(await daemon.deputy('check')).toMatchObject({
      code: 3,
      out: expect.stringMatching(
        /^downstreams\/own\.yaml:\d+: .*secrets\/own has mode 0644.*\n +Run: chmod 600 /,
      ) as string,
    })
    expect(await daemon.deputy('status')).toMatchObject({
      code: 3,
      out: expect.stringContaining('has mode 0644') as string,
    })
    await chmod(secret, 0o600)
    await rename(secret, `${secret}.away`)
    expect(await daemon.deputy('check')).toMatchObject({
      code: 0,
      out: expect.stringMatching(/warning: downstreams\/own\.yaml:\d+: There is no file /) as string,
    })
    expect((await daemon.deputy('check', '--strict')).code).toBe(3)
    await rename(`${secret}.away`, secret)
    expect((await daemon.deputy('status')).code).toBe(0)
  })

  it('fault 33: folders that are made, removed or replaced while the daemon runs are watched', async () => {
    let before = await generation()
    await mkdir(join(daemon.home, 'policies/rotation'), { mode: 0o700 })
    await readAgain(before)
    before = await generation()
    await daemon.write({
      'policies/rotation/own.yaml': {
        rotation: 'own',
        owner: 'o@example.com',
        secrets: { backend: 'deputy', name: 'signing-keys' },
        when: { every: '30d' },
        how: { rotator: 'deputy_keys' },
      },
    })
    await readAgain(before)
    before = await generation()
    await rename(join(daemon.home, 'tenants'), join(daemon.home, 'tenants.next'))
    await rename(join(daemon.home, 'tenants.next'), join(daemon.home, 'tenants'))
    await readAgain(before)
    before = await generation()
    await writeFile(join(daemon.home, 'tenants/late.yaml'), 'tenant: late\n', { mode: 0o600 })
    await readAgain(before)
    expect((await daemon.deputy('tenant', 'list')).out).toContain('late')
  })
})

describe('what a user sees of it', () => {
  let world: World
  beforeAll(async () => {
    world = await startWorld(() => {}, { servers: false })
  })
  afterAll(async () => {
    await world?.close()
  })

  it('fault 29: an id for the admin, and neither paths nor commands', async () => {
    await chmod(join(world.home, 'secrets/sign-in'), 0o644)
    const { body } = await ask(
      { socketPath: join(world.home, 'run/deputy.sock') },
      {
        path: '/session',
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
        body: new URLSearchParams({ tenant: 'acme' }).toString(),
      },
    )
    const browser = createBrowser()
    let page = await browser.open(String(body['url']))
    for (let at = 0; at < 3 && page.url.startsWith(world.idp.url); at += 1)
      page = page.body.includes('name="login"')
        ? await browser.submit(page, { login: 'alice' })
        : await browser.submit(page, { decision: 'allow' })
    const text = page.body
    expect(text).not.toMatch(/chmod|secrets|0644|\/tmp/)
    const id = /Correlation id: ([\w-]+)/.exec(text)?.[1]
    expect(text).toContain('administrator')
    await expect
      .poll(async () => (await world.deputy('explain', String(id))).out, { timeout: 10_000 })
      .toContain('has mode 0644')
    expect(await readFile(join(world.home, 'secrets/sign-in'), 'utf8')).not.toBe('')
  })
})
