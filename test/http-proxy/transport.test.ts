import { execFile } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { Agent, request as httpRequest, type IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { WebSocket } from 'ws'
import { createSystemRandom, systemClock } from '../../src/clock.ts'
import { createAuthority, openAuthority, type Authority } from '../../src/listeners/http-proxy/authority.ts'
import { startService, type Service } from '../doubles/service.ts'
import { RESOURCES } from '../support/configuration.ts'
import { ask, startTestIssuer, type Answer, type TestIssuer } from '../support/daemon.ts'
import { BASIC, openTunnel, startProxied, tlsThrough, type Proxied } from '../support/proxy.ts'

const KEY = 'k3y-of-the-service'
const MB = 1_048_576

let issuer: TestIssuer
let folder: string
let authority: Authority
let plain: Service
let secure: Service
let h2: Service
let other: Service
let daemon: Proxied
let ca: string
let token: string

beforeAll(async () => {
  issuer = await startTestIssuer()
  folder = await mkdtemp(join(tmpdir(), 'deputy-proxy-'))
  const around = { clock: systemClock, random: createSystemRandom() }
  authority = openAuthority(await createAuthority(around), around)
  await writeFile(join(folder, 'ca.pem'), authority.certificate)
  plain = await startService()
  secure = await startService({ authority })
  h2 = await startService({ authority, h2: true })
  other = await startService()
  const as = { header: 'Authorization', value: 'Bearer {credential}' }
  daemon = await startProxied(
    issuer,
    {
      plain: { secret: KEY, inject: { hosts: [plain.url], as, only: true } },
      secure: { secret: KEY, inject: { hosts: [secure.url], as } },
      h2: { secret: KEY, inject: { hosts: [h2.url], as, redact_response: false } },
      nowhere: {
        secret: KEY,
        inject: { hosts: ['http://127.0.0.1:1', 'https://10.1.2.3', 'https://169.254.169.254'], as },
      },
    },
    { proxy: { answer: '2s', idle: '3s' }, limits: { header_timeout: '1s', request_timeout: '2s', drain: '500ms' } },
    { NODE_EXTRA_CA_CERTS: join(folder, 'ca.pem') },
  )
  ca = await readFile(join(daemon.home, 'state/proxy-ca.pem'), 'utf8')
  token = await issuer.sign({ aud: RESOURCES.notes, org: 'acme', exp: Math.floor(Date.now() / 1000) + 3600 })
})
afterEach(() => {
  for (const service of [plain, secure, h2]) {
    service.answer = undefined
    service.received.length = 0
    service.upgrades.length = 0
  }
})
afterAll(async () => {
  await daemon?.close()
  for (const service of [plain, secure, h2, other]) await service?.close()
  await issuer?.close()
  await rm(folder, { recursive: true, force: true })
})

const socket = () => ({ socketPath: daemon.proxySocket })
const tcp = () => ({ port: daemon.proxyPort })
const forUser = () => ({ 'deputy-subject-token': token })
const send = (path: string, options: Partial<Parameters<typeof ask>[1]> = {}): Promise<Answer> =>
  ask(socket(), { path, ...options, headers: { ...forUser(), ...options.headers } })
const hostOf = ({ url }: Service): string => new URL(url).host
const textOf = async (response: IncomingMessage): Promise<string> => {
  let text = ''
  for await (const chunk of response) text += String(chunk)
  return text
}
/** A request whose answer is read as it comes. */
const open = async (
  options: { path: string; method?: string; headers?: Record<string, string> },
  body?: Readable,
): Promise<IncomingMessage> => {
  const request = httpRequest({
    ...socket(),
    agent: false,
    ...options,
    headers: { host: 'localhost', ...forUser(), ...options.headers },
  })
  if (body === undefined) request.end()
  else body.pipe(request)
  const [response] = (await once(request, 'response')) as [IncomingMessage]
  return response
}
const inTunnel = async (
  service: Service,
  headers: Record<string, string>,
  inner: Record<string, string> = {},
  to: number | string = daemon.proxyPort,
): Promise<{ status: number; body: Record<string, unknown> }> => {
  const inside = await tlsThrough(to, hostOf(service), headers, ca)
  const request = httpsRequest({
    createConnection: () => inside,
    path: '/inside?x=1',
    headers: { host: hostOf(service), ...inner },
  })
  request.end()
  const [response] = (await once(request, 'response')) as [IncomingMessage]
  const text = await textOf(response)
  inside.destroy()
  return { status: response.statusCode!, body: JSON.parse(text) as Record<string, unknown> }
}

describe('the forms of the proxy', () => {
  it('by a path, over the socket and over TCP with client id and secret', async () => {
    expect((await send('/d/plain/a/b?c=d')).body).toMatchObject({
      url: '/a/b?c=d',
      headers: { authorization: `Bearer ${'*'.repeat(KEY.length)}` },
    })
    const answer = await ask(tcp(), { path: '/d/plain/x', headers: { ...BASIC, ...forUser() } })
    expect([answer.status, answer.body['url']]).toEqual([200, '/x'])
    expect(plain.received.at(-1)!.headers.authorization).toBe(`Bearer ${KEY}`)
    expect((await ask(tcp(), { path: '/d/plain/x', headers: forUser() })).body['reason']).toBe('workload_unknown')
  })

  it('by a URL, as clients of an HTTP proxy send it', async () => {
    const answer = await ask(tcp(), {
      path: `${plain.url}/x?y`,
      headers: { host: hostOf(plain), ...BASIC, ...forUser() },
    })
    expect([answer.status, answer.body['url']]).toEqual([200, '/x?y'])
    const unknown = await ask(tcp(), { path: `${plain.url}/x`, headers: { host: hostOf(plain), ...forUser() } })
    expect([unknown.status, unknown.headers['proxy-authenticate']]).toEqual([407, expect.stringContaining('Basic')])
  })

  it('through a tunnel, whose TLS is by an authority of this installation', async () => {
    expect((await stat(join(daemon.home, 'state/proxy-ca.pem'))).mode & 0o777).toBe(0o644)
    expect((await ask(socket(), { path: '/ca.pem' })).text).toBe(ca)
    expect(await inTunnel(secure, { ...BASIC, ...forUser() })).toMatchObject({
      status: 200,
      body: {
        url: '/inside?x=1',
        headers: { ':authority': hostOf(secure), authorization: `Bearer ${'*'.repeat(KEY.length)}` },
      },
    })
    expect(secure.received.at(-1)!.headers.authorization).toBe(`Bearer ${KEY}`)
    expect(await inTunnel(secure, BASIC, { 'deputy-on-behalf-of': 'server' })).toMatchObject({ status: 200 })
    // What the request itself says counts, also when it is nothing.
    expect(
      await inTunnel(secure, { ...BASIC, 'deputy-on-behalf-of': 'server' }, { 'deputy-subject-token': '' }),
    ).toMatchObject({ status: 400, body: { reason: 'beneficiary_missing' } })
    expect(await inTunnel(secure, BASIC)).toMatchObject({ body: { reason: 'beneficiary_missing' } })
    // Over the socket the kernel says who calls, also for what comes through the tunnel.
    expect(await inTunnel(secure, {}, forUser(), daemon.proxySocket)).toMatchObject({ status: 200 })
    expect(await inTunnel(secure, {}, { 'deputy-on-behalf-of': 'session' }, daemon.proxySocket)).toMatchObject({
      body: { reason: 'subject_session_missing' },
    })
  })

  it('curl uses it as its proxy', async () => {
    const { stdout } = await promisify(execFile)('curl', [
      '-sS',
      '--proxy',
      `http://notes:the-secret-of-notes@127.0.0.1:${daemon.proxyPort}`,
      '--proxy-header',
      `Deputy-Subject-Token: ${token}`,
      '--cacert',
      join(daemon.home, 'state/proxy-ca.pem'),
      '-d',
      'a=b',
      `${secure.url}/curl`,
    ])
    expect(JSON.parse(stdout)).toMatchObject({ method: 'POST', url: '/curl', body: 'a=b' })
  })

  it('programs in Node and Python use it by HTTPS_PROXY', async () => {
    const environment = {
      ...process.env,
      HTTPS_PROXY: `http://notes:the-secret-of-notes@127.0.0.1:${daemon.proxyPort}`,
      NO_PROXY: '',
      no_proxy: '',
      NODE_USE_ENV_PROXY: '1',
      NODE_EXTRA_CA_CERTS: join(daemon.home, 'state/proxy-ca.pem'),
      SSL_CERT_FILE: join(daemon.home, 'state/proxy-ca.pem'),
      URL: `${secure.url}/env`,
      TOKEN: token,
    }
    for (const [program, ...args] of [
      [
        process.execPath,
        '-e',
        'fetch(process.env.URL, { headers: { "deputy-subject-token": process.env.TOKEN } }).then(async (answer) => { console.log(await answer.text()) })',
      ],
      [
        'python3',
        '-c',
        'import os, urllib.request as u\nprint(u.urlopen(u.Request(os.environ["URL"], headers={"Deputy-Subject-Token": os.environ["TOKEN"]})).read().decode())',
      ],
    ] as const) {
      const { stdout } = await promisify(execFile)(program, args, { env: environment })
      expect(JSON.parse(stdout)).toMatchObject({ method: 'GET', url: '/env' })
    }
  })

  it('the authority stays the same after a restart, and its key is in no file', async () => {
    await daemon.stop()
    await daemon.start()
    expect(await readFile(join(daemon.home, 'state/proxy-ca.pem'), 'utf8')).toBe(ca)
    for (const name of ['deputy.db', 'deputy.db-wal'])
      expect(
        (await readFile(join(daemon.home, 'state', name)).catch(() => Buffer.alloc(0))).includes('PRIVATE KEY'),
      ).toBe(false)
    expect((await daemon.deputy('status')).out).toContain(`proxy: ${daemon.proxySocket}, 127.0.0.1:${daemon.proxyPort}`)
  })
})

describe('it is no open proxy', () => {
  it('a host that is none of a downstream of the caller is refused in every form, and nobody is connected to', async () => {
    for (const headers of [
      { ...BASIC, ...forUser() },
      { ...BASIC, 'deputy-on-behalf-of': 'server' },
    ]) {
      const answer = await ask(tcp(), { path: `${other.url}/x`, headers: { host: hostOf(other), ...headers } })
      expect([answer.status, answer.body['reason'], answer.headers['deputy-error']]).toEqual([
        403,
        'injection_host_unknown',
        'injection_host_unknown',
      ])
    }
    for (const [authority, status, reason] of [
      [hostOf(other), 403, 'injection_host_unknown'],
      ['example.com:443', 403, 'injection_host_unknown'],
      [hostOf(plain), 403, 'injection_host_unknown'],
      ['example.com', 400, 'malformed_request'],
      ['user@example.com:443', 400, 'malformed_request'],
    ] as const) {
      const tunnel = await openTunnel(daemon.proxyPort, authority, BASIC)
      expect('refused' in tunnel && [tunnel.refused.statusCode, tunnel.refused.headers['deputy-error']]).toEqual([
        status,
        reason,
      ])
    }
    const unknown = await openTunnel(daemon.proxyPort, hostOf(secure), {})
    expect('refused' in unknown && unknown.refused.statusCode).toBe(407)
    expect(other.received).toEqual([])
    expect((await daemon.deputy('audit', 'export')).out).toContain('"event":"proxy.connect"')
  })

  it('threat 6: an address that Deputy does not connect to is refused, whatever a file says', async () => {
    for (const host of ['10.1.2.3', '169.254.169.254']) {
      const answer = await ask(tcp(), { path: `https://${host}/`, headers: { host, ...BASIC, ...forUser() } })
      expect([host, answer.status, answer.body['reason']]).toEqual([host, 403, 'egress_refused'])
    }
  })

  it('promise 10, threat 1: a web page reaches it in no form', async () => {
    const cases: [string, Record<string, string>][] = [
      ['/d/plain/', { host: 'evil.example' }],
      ['/d/plain/', { origin: 'https://evil.example' }],
      ['/d/plain/', { 'sec-fetch-site': 'cross-site' }],
      ['/d/plain/', { origin: 'null' }],
      ['/ca.pem', { host: 'evil.example' }],
      [`${plain.url}/x`, { host: hostOf(plain), origin: 'https://evil.example' }],
      [`${plain.url}/x`, { host: 'evil.example' }],
      [`${plain.url}/x`, { host: hostOf(plain), 'sec-fetch-site': 'none' }],
    ]
    for (const [path, headers] of cases) {
      const answer = await ask(tcp(), { path, headers: { ...BASIC, ...forUser(), ...headers } })
      expect([path, headers, answer.status, answer.body['reason']]).toEqual([path, headers, 403, 'foreign_caller'])
      expect(answer.headers['access-control-allow-origin']).toBeUndefined()
    }
    expect(
      (
        await ask(tcp(), {
          path: '/d/plain/',
          method: 'OPTIONS',
          headers: { origin: 'https://evil.example', 'access-control-request-headers': 'deputy-subject-token' },
        })
      ).status,
    ).toBe(403)
    const tunnel = await openTunnel(daemon.proxyPort, hostOf(secure), { ...BASIC, origin: 'https://evil.example' })
    expect('refused' in tunnel && tunnel.refused.statusCode).toBe(403)
    const page = new WebSocket(`ws://127.0.0.1:${daemon.proxyPort}/d/plain/`, {
      headers: { ...BASIC, ...forUser() },
      origin: 'https://evil.example',
    })
    const [, failure] = (await once(
      page.on('error', () => undefined),
      'unexpected-response',
    )) as [unknown, IncomingMessage]
    expect(failure.statusCode).toBe(403)
    page.terminate()
    expect(plain.received).toEqual([])
  })
})

describe('what comes and goes', () => {
  it('HTTP/2 where the service speaks nothing else', async () => {
    const answer = await send('/d/h2/x', { method: 'PUT', body: 'body' })
    expect(answer.body).toMatchObject({
      version: '2.0',
      method: 'PUT',
      url: '/x',
      body: 'body',
      headers: { authorization: `Bearer ${KEY}` },
    })
  })

  it("HEAD, answers without a body, and answers in the service's own words", async () => {
    plain.answer = (request, response) => {
      response
        .writeHead(
          request.method === 'HEAD' ? 200 : 204,
          request.method === 'HEAD' ? { 'content-length': '12345' } : { 'x-own': 'yes' },
        )
        .end()
    }
    expect(await send('/d/plain/', { method: 'HEAD' })).toMatchObject({
      status: 200,
      text: '',
      headers: { 'content-length': '12345' },
    })
    expect(await send('/d/plain/', { method: 'DELETE' })).toMatchObject({ status: 204, headers: { 'x-own': 'yes' } })
    plain.answer = (_request, response) => {
      response
        .writeHead(418, 'Short And Stout', {
          'deputy-error': 'forged',
          connection: 'x-hop',
          'x-hop': '1',
          'set-cookie': ['a=1', 'b=2'],
        })
        .end('tea')
    }
    const answer = await send('/d/plain/')
    expect([
      answer.status,
      answer.text,
      answer.headers['set-cookie'],
      answer.headers['deputy-error'],
      answer.headers['x-hop'],
    ]).toEqual([418, 'tea', ['a=1', 'b=2'], undefined, undefined])
  })

  it('bodies with every method, and long ones that a placeholder was not looked for in', async () => {
    for (const method of ['GET', 'DELETE', 'PATCH', 'OPTIONS'])
      expect(
        (await send('/d/plain/', { method, headers: { 'content-length': '4' }, body: 'body' })).body,
      ).toMatchObject({ method, body: 'body' })
    expect(
      (
        await send('/d/plain/', {
          method: 'POST',
          headers: { 'transfer-encoding': 'chunked' },
          body: 'x'.repeat(100_000),
        })
      ).body,
    ).toMatchObject({ body: 'x'.repeat(100_000) })
    expect(
      (
        await send('/d/plain/', {
          method: 'POST',
          headers: { connection: 'content-length, x-hop', 'x-hop': '1' },
          body: 'x'.repeat(20_000),
        })
      ).body,
    ).toMatchObject({ body: 'x'.repeat(20_000) })
    expect(Object.keys(plain.received.at(-1)!.headers)).not.toContain('x-hop')
  })

  it('an answer before the body has gone is passed on, and the connection serves on', async () => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    for (let turn = 0; turn < 5; turn += 1) {
      plain.answer = (request, response) => {
        response.writeHead(413).end('too much')
        request.resume().on('error', () => undefined)
      }
      expect(await send('/d/plain/', { body: 'x'.repeat(5_000_000), agent })).toMatchObject({
        status: 413,
        text: 'too much',
      })
      expect((await send('/d/nothing/', { body: 'x'.repeat(5_000_000), agent })).body['reason']).toBe('target_unknown')
      plain.answer = undefined
      expect((await send('/d/plain/', { agent })).status).toBe(200)
    }
    agent.destroy()
  })

  it('an event arrives before the answer has ended', async () => {
    let ended: (() => void) | undefined
    plain.answer = (_request, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      response.flushHeaders()
      ended = () => {
        response.end('data: last\n\n')
      }
      response.write('data: first\n\n')
    }
    const response = await open({ path: '/d/plain/events' })
    const [first] = (await once(response, 'data')) as [Buffer]
    expect(first.toString()).toBe('data: first\n\n')
    ended!()
    expect(await textOf(response)).toBe('data: last\n\n')
  })

  it('the head of an answer arrives before its body', async () => {
    plain.answer = (_request, response) => {
      response.writeHead(200)
      response.flushHeaders()
    }
    const response = await open({ path: '/d/plain/' })
    expect(response.statusCode).toBe(200)
    response.destroy()
  })

  it('a client that waits is told to go on when its request is allowed, and refused at once when it is not', async () => {
    const ask100 = async (path: string): Promise<{ continued: boolean; response: IncomingMessage }> => {
      const request = httpRequest({
        ...socket(),
        agent: false,
        path,
        method: 'POST',
        headers: { host: 'localhost', ...forUser(), expect: '100-continue', 'content-length': '4' },
      })
      let continued = false
      request.on('continue', () => {
        continued = true
        request.end('body')
      })
      request.flushHeaders()
      const [response] = (await once(request, 'response')) as [IncomingMessage]
      request.on('error', () => undefined)
      return { continued, response }
    }
    const allowed = await ask100('/d/plain/')
    expect([allowed.continued, JSON.parse(await textOf(allowed.response))]).toMatchObject([true, { body: 'body' }])
    const refused = await ask100('/d/nothing/')
    expect([refused.continued, refused.response.statusCode]).toEqual([false, 400])
    refused.response.destroy()
  })

  it('a WebSocket, by a path and through a tunnel; a service that wants none says so itself', async () => {
    const echo = async (websocket: WebSocket): Promise<string> => {
      await once(websocket, 'open')
      websocket.send('hello')
      const [data] = (await once(websocket, 'message')) as [Buffer]
      websocket.close()
      await once(websocket, 'close')
      return data.toString()
    }
    expect(
      await echo(
        new WebSocket(`ws://127.0.0.1:${daemon.proxyPort}/d/plain/socket`, { headers: { ...BASIC, ...forUser() } }),
      ),
    ).toBe('hello')
    expect(plain.upgrades[0]).toMatchObject({ authorization: `Bearer ${KEY}`, host: hostOf(plain) })
    expect(Object.keys(plain.upgrades[0]!).filter((name) => /^(deputy|proxy)-/.test(name))).toEqual([])
    const inside = await tlsThrough(daemon.proxyPort, hostOf(secure), { ...BASIC, ...forUser() }, ca)
    expect(await echo(new WebSocket(`wss://${hostOf(secure)}/socket`, { createConnection: () => inside }))).toBe(
      'hello',
    )
    const bye = new WebSocket(`ws://127.0.0.1:${daemon.proxyPort}/d/plain/bye`, { headers: { ...BASIC, ...forUser() } })
    const closed = once(bye, 'close')
    const [last] = (await once(bye, 'message')) as [Buffer]
    expect([last.length, (await closed)[0]]).toEqual([4_000_000, 1005])
    // A service that has heard of no WebSocket answers as ever, and is searched as ever.
    plain.answer = (request, response) => {
      response.end(`you are ${request.headers.authorization}`)
    }
    const ordinary = new WebSocket(`ws://127.0.0.1:${daemon.proxyPort}/d/plain/ignore`, {
      headers: { ...BASIC, ...forUser(), 'accept-encoding': 'gzip' },
    })
    const [, answer] = (await once(
      ordinary.on('error', () => undefined),
      'unexpected-response',
    )) as [unknown, IncomingMessage]
    expect(await textOf(answer)).toBe(`you are Bearer ${'*'.repeat(KEY.length)}`)
    ordinary.terminate()
    // Neither another method nor another protocol makes one.
    plain.answer = undefined
    expect(
      (
        await send('/d/plain/', {
          method: 'POST',
          headers: { connection: 'upgrade', upgrade: 'websocket', 'content-length': '1' },
          body: 'x',
        })
      ).body,
    ).toMatchObject({ method: 'POST', body: 'x' })
    expect(
      (
        await send('/d/plain/', {
          headers: { connection: 'upgrade, http2-settings', upgrade: 'h2c', 'http2-settings': 'AAA' },
        })
      ).body,
    ).toMatchObject({ method: 'GET' })
    const refused = new WebSocket(`ws://127.0.0.1:${daemon.proxyPort}/d/plain/refuse`, {
      headers: { ...BASIC, ...forUser() },
    })
    const [, response] = (await once(
      refused.on('error', () => undefined),
      'unexpected-response',
    )) as [unknown, IncomingMessage]
    expect([response.statusCode, await textOf(response)]).toEqual([401, 'no'])
    refused.terminate()
  })

  it('promise 4: what a revocation covers ends, also while it is open', async () => {
    const hers = await issuer.sign({ aud: RESOURCES.notes, org: 'acme', sub: 'mallory' })
    plain.answer = (_request, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      const beat = setInterval(() => {
        response.write('data: x\n\n')
      }, 300)
      response.once('close', () => {
        clearInterval(beat)
      })
    }
    const [stream, another] = [
      await open({ path: '/d/plain/events', headers: { 'deputy-subject-token': hers } }),
      await open({ path: '/d/plain/events' }),
    ]
    const websocket = new WebSocket(`ws://127.0.0.1:${daemon.proxyPort}/d/plain/`, {
      headers: { ...BASIC, 'deputy-subject-token': hers },
    })
    await once(websocket, 'open')
    const closed = once(websocket, 'close')
    const beat = setInterval(() => {
      websocket.send('x')
    }, 300)
    another.resume()
    expect((await daemon.deputy('revoke', '--tenant', 'acme', '--user', 'mallory')).code).toBe(0)
    await expect(textOf(stream)).rejects.toThrow(/aborted/)
    await closed
    clearInterval(beat)
    expect(another.destroyed).toBe(false)
    another.destroy()
  })

  it('when the caller goes away the request ends at the service', async () => {
    const gone = new Promise<void>((resolve) => {
      plain.answer = (_request, response) => {
        response.writeHead(200)
        response.write('x\n')
        response.once('close', resolve)
      }
    })
    const response = await open({ path: '/d/plain/' })
    await once(response, 'data')
    response.destroy()
    await gone
    const goneEarly = new Promise<void>((resolve, reject) => {
      plain.answer = (request) => {
        begun!()
        request.once('close', resolve)
        request
          .once('end', () => {
            reject(new Error('it came to an end'))
          })
          .resume()
      }
    })
    let begun: (() => void) | undefined
    const started = new Promise<void>((resolve) => {
      begun = resolve
    })
    const upload = httpRequest({
      ...socket(),
      agent: false,
      path: '/d/plain/',
      method: 'POST',
      headers: { host: 'localhost', ...forUser(), 'content-length': '1000000' },
    })
    upload.on('error', () => undefined).write('the beginning')
    await started
    upload.destroy()
    await goneEarly
  })

  it('a service that is not there, that does not answer or that breaks off: an error in bounded time, never a hang', async () => {
    expect(await send('/d/nowhere/', { body: 'x'.repeat(100_000) })).toMatchObject({
      status: 502,
      body: { reason: 'upstream_unreachable' },
      headers: { 'deputy-error': 'upstream_unreachable' },
    })
    plain.answer = () => undefined
    expect(await send('/d/plain/')).toMatchObject({ status: 504, body: { reason: 'upstream_timeout' } })
    plain.answer = (_request, response) => {
      response.writeHead(200, { 'content-length': '10' })
      response.write('abc')
      setImmediate(() => {
        response.destroy()
      })
    }
    const broken = await open({ path: '/d/plain/' })
    await expect(textOf(broken)).rejects.toThrow(/aborted/)
    plain.answer = (_request, response) => {
      response.writeHead(200)
      response.write('abc')
    }
    await expect(textOf(await open({ path: '/d/plain/' }))).rejects.toThrow(/aborted/)
  })

  it('a client that sends nothing, or garbage, inside a tunnel or before it, is ended', async () => {
    for (const bytes of [
      'CONNECT ',
      `CONNECT ${hostOf(secure)} HTTP/1.1\r\nHost: ${hostOf(secure)}\r\nProxy-Authorization: ${BASIC['proxy-authorization']}\r\n\r\n`,
      `CONNECT ${hostOf(secure)} HTTP/1.1\r\nHost: ${hostOf(secure)}\r\nProxy-Authorization: ${BASIC['proxy-authorization']}\r\n\r\nGET / HTTP/1.1\r\n\r\n`,
    ]) {
      const client = connect(daemon.proxyPort, '127.0.0.1')
      client.write(bytes)
      await new Promise<void>((resolve) => {
        client.on('close', () => {
          resolve()
        })
        client.on('error', () => {
          resolve()
        })
        client.resume()
      })
    }
    expect((await send('/d/plain/')).status).toBe(200)
  })

  it.each(['plain', 'h2'] as const)(
    'a caller that reads nothing holds up the service, and the daemon keeps little of what comes (%s)',
    async (name) => {
      let sent = 0
      const block = Buffer.alloc(64 * 1024, 'x')
      const over = new Promise<void>((resolve) => {
        ;({ plain, h2 })[name].answer = (_request, response) => {
          response.writeHead(200)
          const more = (): void => {
            while (!response.destroyed && response.write(block)) sent += block.length
          }
          response.on('drain', more).once('close', resolve)
          more()
        }
      })
      const response = await open({ path: `/d/${name}/` })
      response.pause()
      let before = -1
      for (let look = 0; look < 50 && sent !== before; look += 1) {
        before = sent
        await sleep(200)
      }
      expect(sent).toBe(before)
      expect(sent / MB).toBeLessThan(32)
      response.destroy()
      await over
    },
  )

  it.each(['plain', 'h2'] as const)(
    '64 MB go up and come down whole, and the daemon keeps none of it (%s)',
    async (name) => {
      const block = randomBytes(MB)
      const wanted = createHash('sha256')
      for (let at = 0; at < 64; at += 1) wanted.update(block)
      const digest = wanted.digest('hex')
      const blocks = () =>
        Readable.from(
          (function* () {
            for (let at = 0; at < 64; at += 1) yield block
          })(),
        )
      const memory = async (): Promise<number> =>
        (
          (await ask({ socketPath: `${daemon.home}/run/admin.sock` }, { path: '/status' })).body['memory'] as {
            rss: number
          }
        ).rss
      const service = { plain, h2 }[name]
      service.answer = (request, response) => {
        const hash = createHash('sha256')
        request
          .on('data', (chunk: Buffer) => {
            hash.update(chunk)
          })
          .on('end', () => {
            response.setHeader('x-digest', hash.digest('hex'))
            blocks().pipe(response)
          })
      }
      const turn = async (): Promise<void> => {
        const response = await open({ path: `/d/${name}/`, method: 'POST' }, blocks())
        const hash = createHash('sha256')
        for await (const chunk of response) hash.update(chunk as Buffer)
        expect([response.headers['x-digest'], hash.digest('hex')]).toEqual([digest, digest])
      }
      await turn()
      const before = await memory()
      await turn()
      expect(((await memory()) - before) / MB).toBeLessThan(50)
    },
    60_000,
  )
})

describe('the end of the daemon', () => {
  it('a tunnel and a WebSocket that stay open hold it up no longer than they may', async () => {
    const inside = await tlsThrough(daemon.proxyPort, hostOf(secure), { ...BASIC, ...forUser() }, ca)
    const websocket = new WebSocket(`ws://127.0.0.1:${daemon.proxyPort}/d/plain/`, {
      headers: { ...BASIC, ...forUser() },
    })
    await once(websocket, 'open')
    for (const each of [inside, websocket]) each.on('error', () => undefined)
    const began = Date.now()
    await daemon.stop()
    expect([daemon.process.exitCode, Date.now() - began < 4000]).toEqual([0, true])
    await daemon.start()
  })
})
