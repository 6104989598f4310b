import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { chmod, mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { decodeProtectedHeader } from 'jose'
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest'
import { stringify } from 'yaml'
import { aCompany, RESOURCES } from '../support/configuration.ts'
import {
  ACCESS_TOKEN,
  ask,
  startDaemonHere,
  startDaemonProcess,
  startTestIssuer,
  TOKEN_EXCHANGE,
  type Answer,
  type Daemon,
  type RunningDaemon,
  type TestIssuer,
} from '../support/daemon.ts'
import { runCli } from '../support/process.ts'

let issuer: TestIssuer
let daemon: RunningDaemon
beforeEach(async () => {
  issuer = await startTestIssuer()
})
afterEach(async () => {
  await daemon?.close()
  await issuer?.close()
})

const start = async (settings: Record<string, unknown> = {}): Promise<void> => {
  daemon = await startDaemonHere(aCompany({ issuer: issuer.url }), settings)
}
const startProcess = async (): Promise<Daemon> => {
  const started = await startDaemonProcess(aCompany({ issuer: issuer.url }))
  daemon = started
  return started
}
const exchange = async (): Promise<Answer> =>
  daemon.token({
    grant_type: TOKEN_EXCHANGE,
    subject_token: await issuer.sign({ aud: RESOURCES.notes, org: 'acme' }),
    subject_token_type: ACCESS_TOKEN,
    audience: 'ledger',
    scope: 'ledger:read',
  })
const admin = (path: string, body?: object) =>
  ask(
    { socketPath: join(daemon.home, 'run/admin.sock') },
    {
      path,
      ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
    },
  )
const settled = async (work: () => Promise<boolean>): Promise<void> => {
  await expect.poll(work, { interval: 100 }).toBe(true)
}

describe('the daemon and its files', () => {
  it('threat 26: audit sinks are set by the file alone, at the next start; no request can', async () => {
    await start()
    for (const path of ['/audit/files', '/audit/sinks', '/settings', '/config', '/audit']) {
      for (const to of [{ socketPath: daemon.socketPath }, { socketPath: join(daemon.home, 'run/admin.sock') }]) {
        const { status } = await ask(to, {
          path,
          body: JSON.stringify({ files: [{ path: 'stolen.jsonl' }] }),
          headers: { 'content-type': 'application/json' },
        })
        expect(status).toBeGreaterThanOrEqual(400)
      }
    }
    const settings = await readFile(join(daemon.home, 'deputy.yaml'), 'utf8')
    await writeFile(join(daemon.home, 'deputy.yaml'), `${settings}audit:\n  files: [{ path: audit.jsonl }]\n`)
    expect(JSON.parse((await daemon.deputy('reload', '--json')).out)).toMatchObject({
      applied: true,
      restart_needed: ['audit'],
    })
    await exchange()
    expect(existsSync(join(daemon.home, 'audit.jsonl'))).toBe(false)
    await daemon.stop()
    await daemon.start()
    await exchange()
    expect(await readFile(join(daemon.home, 'audit.jsonl'), 'utf8')).toContain('token.exchange')
  })

  it('a reload is whole or not at all, by a changed file and by SIGHUP', async () => {
    const { process: child } = await startProcess()
    expect((await exchange()).status).toBe(200)
    const server = await readFile(join(daemon.home, 'servers/notes.yaml'), 'utf8')
    await writeFile(join(daemon.home, 'policies/access/test.cedar'), 'permit (principal')
    await writeFile(join(daemon.home, 'servers/notes.yaml'), server.replace('approved', 'retired'))
    await settled(async () => daemon.output().includes('reload rejected'))
    expect((await exchange()).status).toBe(200)
    await writeFile(join(daemon.home, 'policies/access/test.cedar'), 'forbid (principal, action, resource);')
    await settled(async () => (await exchange()).body['reason'] === 'workload_not_approved')
    await writeFile(join(daemon.home, 'servers/notes.yaml'), server)
    child.kill('SIGHUP')
    await settled(async () => (await exchange()).body['reason'] === 'policy_denied')
  })

  it('does not start on files that others can read, nor beside another daemon', async () => {
    await start()
    const beside = await runCli(daemon.home, ['serve'])
    expect([beside.code, beside.err]).toEqual([7, expect.stringContaining('in use by another daemon')])
    await daemon.stop()
    for (const [path, right] of [
      ['state/kek', 0o600],
      ['state', 0o700],
    ] as const) {
      await chmod(join(daemon.home, path), right | 0o040)
      const { code, err } = await runCli(daemon.home, ['serve'])
      expect([path, code, err]).toEqual([path, 3, expect.stringContaining(path)])
      await chmod(join(daemon.home, path), right)
    }
    await daemon.start()
    for (const path of ['run/deputy.sock', 'run/admin.sock', 'state/deputy.db'])
      expect((await stat(join(daemon.home, path))).mode & 0o777).toBe(0o600)
  })

  it('SIGTERM lets a request under way finish', async () => {
    const started = await startProcess()
    const pending = Promise.allSettled(Array.from({ length: 20 }, () => exchange()))
    await new Promise((resolve) => {
      setTimeout(resolve, 30)
    })
    await started.stop('SIGTERM')
    expect(started.process.exitCode).toBe(0)
    // What had not been accepted yet finds nobody; what had is answered whole.
    const answered = (await pending).filter((result) => result.status === 'fulfilled')
    expect(answered.length).toBeGreaterThan(0)
    for (const { value } of answered) expect(value.status).toBe(200)
  })

  it('promise 7: rotates its own keys by policy; what the old ones signed and wrapped goes on being good', async () => {
    daemon = await startDaemonHere({
      ...aCompany({ issuer: issuer.url }),
      'policies/rotation/own.yaml': ['signing-keys', 'key-encryption-key']
        .map((name) =>
          stringify({
            rotation: name,
            owner: 'security@example.com',
            secrets: { backend: 'deputy', name },
            when: { every: '30d' },
            how: { rotator: 'deputy_keys' },
          }),
        )
        .join('---\n'),
    })
    await runCli(daemon.home, ['secret', 'set', '--tenant', 'acme', '--name', 'mail-key'], 'a mail key')
    const { access_token: before } = (await exchange()).body
    const kek = await readFile(join(daemon.home, 'state/kek'), 'utf8')
    for (const name of ['signing-keys', 'key-encryption-key'])
      expect(
        (
          await daemon.deputy(
            'rotation',
            'run',
            '--tenant',
            '_deputy',
            '--backend',
            'deputy',
            '--name',
            name,
            '--reason',
            'test',
          )
        ).err,
      ).toBe('')
    await settled(
      async () =>
        (JSON.parse((await daemon.deputy('rotation', 'history', '--json')).out) as { state: string }[]).filter(
          ({ state }) => state === 'done',
        ).length === 2,
    )
    const { access_token: after } = (await exchange()).body
    const kidOf = (token: unknown): string | undefined => decodeProtectedHeader(String(token)).kid
    const published = (await ask({ port: daemon.port }, { path: '/.well-known/jwks.json' })).body['keys'] as {
      kid: string
    }[]
    for (const to of [{ port: daemon.port }, daemon]) {
      expect((await ask(to, { path: '/.well-known/openid-configuration' })).body).toMatchObject({
        issuer: `http://127.0.0.1:${daemon.port}`,
        jwks_uri: `http://127.0.0.1:${daemon.port}/.well-known/jwks.json`,
        id_token_signing_alg_values_supported: ['RS256'],
      })
    }
    expect(kidOf(after)).not.toBe(kidOf(before))
    expect(published.map(({ kid }) => kid)).toEqual(expect.arrayContaining([kidOf(before), kidOf(after)]))
    expect(await readFile(join(daemon.home, 'state/kek'), 'utf8')).not.toBe(kek)
    await daemon.stop()
    await daemon.start()
    expect((await exchange()).status).toBe(200)
  })

  it('key rotate wraps every data key anew, and what was sealed can still be read', async () => {
    await start()
    await runCli(daemon.home, ['secret', 'set', '--tenant', 'acme', '--name', 'mail-key'], 'a mail key')
    const before = await readFile(join(daemon.home, 'state/kek'), 'utf8')
    expect(JSON.parse((await daemon.deputy('key', 'rotate', '--json')).out)).toMatchObject({
      rewrapped: expect.any(Number),
    })
    expect(await readFile(join(daemon.home, 'state/kek'), 'utf8')).not.toBe(before)
    await daemon.stop()
    await daemon.start()
    const mail = await daemon.token({
      grant_type: TOKEN_EXCHANGE,
      subject_token: await issuer.sign({ aud: RESOURCES.notes, org: 'acme' }),
      subject_token_type: ACCESS_TOKEN,
      audience: 'mail',
    })
    expect(mail.body['access_token']).toBe('a mail key')
  })
})

describe('a full disk', () => {
  it('threat 29: refuses by name, answers in bounded time, and goes on when there is room; no acknowledged record is missing', async ({
    skip,
  }) => {
    await start()
    await daemon.stop()
    const state = join(daemon.home, 'state')
    const aside = join(daemon.home, 'aside')
    await mkdir(aside)
    spawnSync('cp', ['-a', `${state}/.`, aside])
    if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=3m,mode=700', 'tmpfs', state]).status !== 0) {
      skip('only root may mount a small file system')
      return
    }
    try {
      await fillUp(state, aside)
    } finally {
      await daemon.stop()
      spawnSync('umount', ['-l', state])
    }
  })

  const fillUp = async (state: string, aside: string): Promise<void> => {
    spawnSync('cp', ['-a', `${aside}/.`, state])
    const ballast = join(state, 'ballast')
    await writeFile(ballast, Buffer.alloc(1_200_000))
    await daemon.start()
    const issued: string[] = []
    let refused: Answer | undefined
    for (let turn = 0; turn < 3000 && refused === undefined; turn += 1) {
      const began = performance.now()
      const answer = await exchange()
      expect(performance.now() - began).toBeLessThan(6000)
      if (answer.status === 200) issued.push(String(answer.headers['x-correlation-id']))
      else refused = answer
    }
    expect(refused?.body).toMatchObject({ reason: 'audit_unavailable', error: 'temporarily_unavailable' })
    expect(refused?.headers['retry-after']).toBeDefined()
    expect((await ask(daemon, { path: '/readyz' })).status).toBe(503)
    await rm(ballast)
    await settled(async () => (await exchange()).status === 200)
    const recorded = new Set(
      (JSON.parse((await admin('/audit?limit=10000')).text) as { id: string; outcome: string }[]).map(({ id }) => id),
    )
    expect(issued.filter((id) => !recorded.has(id))).toEqual([])
    // Records leave by an order, and the orders are refused that would take too much.
    for (const sealed of [1, null, 2]) {
      if (sealed === 2) expect((await exchange()).status).toBe(200)
      expect(JSON.parse((await daemon.deputy('audit', 'seal', '--json')).out)).toEqual({ sealed })
    }
    expect((await daemon.deputy('audit', 'prune', '--older-than', '1d')).err).toContain('7d at least')
    expect(JSON.parse((await daemon.deputy('audit', 'prune', '--older-than', '7d', '--json')).out)).toMatchObject({
      segments: 0,
    })
    expect((await daemon.deputy('audit', 'verify')).code).toBe(0)
  }
})

describe('telemetry', () => {
  it("a trace follows the caller's span into Deputy and to the collector, and no label names a user or a token", async () => {
    const received: { path: string; body: string }[] = []
    const collector = createServer((request, response) => {
      let body = ''
      request.on('data', (chunk: Buffer) => {
        body += chunk.toString('utf8')
      })
      request.on('end', () => {
        received.push({ path: request.url ?? '', body })
        response.writeHead(200, { 'content-type': 'application/json' }).end('{}')
      })
    })
    await new Promise<void>((resolve) => {
      collector.listen(0, '127.0.0.1', resolve)
    })
    onTestFinished(() => {
      collector.close()
      collector.closeAllConnections()
    })
    await start({ telemetry: { otlp: `http://127.0.0.1:${(collector.address() as AddressInfo).port}` } })
    const trace = '0af7651916cd43dd8448eb211c80319c'
    const subject = await issuer.sign({ aud: RESOURCES.notes, org: 'acme', sub: 'canary-user' })
    const answer = await daemon.token(
      { grant_type: TOKEN_EXCHANGE, subject_token: subject, subject_token_type: ACCESS_TOKEN, audience: 'ledger' },
      { traceparent: `00-${trace}-b7ad6b7169203331-01` },
    )
    expect(answer.status).toBe(200)
    await daemon.stop()
    const spans = received
      .filter(({ path }) => path === '/v1/traces')
      .map(({ body }) => body)
      .join('')
    for (const name of [
      'POST /oauth2/token',
      'deputy.attest',
      'deputy.verify_subject',
      'deputy.obtain',
      'deputy.audit',
    ])
      expect(spans).toContain(name)
    expect(spans).toContain(trace)
    expect(spans).toContain('b7ad6b7169203331')
    const metrics = received
      .filter(({ path }) => path === '/v1/metrics')
      .map(({ body }) => body)
      .join('')
    expect(metrics).toContain('deputy.exchange.duration')
    for (const text of [spans, metrics])
      for (const secret of ['canary-user', subject.split('.')[2]!]) expect(text).not.toContain(secret)
  })
})
