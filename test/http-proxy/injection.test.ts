import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { startService, type Service } from '../doubles/service.ts'
import { RESOURCES } from '../support/configuration.ts'
import { ACCESS_TOKEN, ask, startTestIssuer, TOKEN_EXCHANGE, type Answer, type TestIssuer } from '../support/daemon.ts'
import { startProxied, type Proxied } from '../support/proxy.ts'

const SECRETS = {
  bearer: 'k3y-of-the-service',
  apikey: 'a&b=c d%e',
  bot: '12:bot/secret',
  form: 'p"ss\\w&rd',
  login: JSON.stringify({ username: 'svc', password: 'p:w-of-svc' }),
  named: 'ghp_named',
  typed: JSON.stringify({ username: 'typed', password: 'p:w-of-typed' }),
  broken: 'line\r\nX-Evil: 1',
  limited: 'limited-key',
  plain: 'plain-key-1',
} as const
type Name = keyof typeof SECRETS

let issuer: TestIssuer
let daemon: Proxied
const services = {} as Record<Name, Service>

beforeAll(async () => {
  issuer = await startTestIssuer()
  for (const name of Object.keys(SECRETS) as Name[]) services[name] = await startService()
  const to = (name: Name, inject: object) => ({
    secret: SECRETS[name],
    inject: { hosts: [services[name].url], ...inject },
  })
  daemon = await startProxied(issuer, {
    bearer: to('bearer', { as: { header: 'Authorization', value: 'Bearer {credential}' }, only: true }),
    apikey: to('apikey', { as: { query: 'api key' } }),
    bot: to('bot', { as: [{ path: 'BOT_TOKEN' }] }),
    form: to('form', { as: [{ body: 'PASSWORD_HERE' }, { header: 'X-Also' }], redact_response: false }),
    login: to('login', { as: { basic: {} } }),
    named: to('named', { as: { basic: { user: 'x-access-token' } } }),
    typed: { ...to('typed', { as: { basic: {} } }), credential: 'basic' },
    broken: to('broken', { as: { header: 'X-Key' } }),
    limited: to('limited', { as: { header: 'X-Key' }, methods: ['GET'], paths: ['/repos/acme'] }),
    plain: to('plain', { as: [{ header: 'Cookie', value: 'session={credential}' }, { header: 'X-Key' }] }),
  })
})
afterEach(() => {
  for (const service of Object.values(services)) {
    service.received.length = 0
    service.answer = undefined
  }
})
afterAll(async () => {
  await daemon?.close()
  for (const service of Object.values(services)) await service.close()
  await issuer?.close()
})

const aToken = (sub = 'alice') => issuer.sign({ aud: RESOURCES.notes, org: 'acme', sub })
const send = async (name: string, options: Partial<Parameters<typeof ask>[1]> = {}): Promise<Answer> =>
  ask(
    { socketPath: daemon.proxySocket },
    { path: `/d/${name}/`, ...options, headers: { 'deputy-subject-token': await aToken(), ...options.headers } },
  )
const seen = (name: Name) => services[name].received.at(-1)!

describe('the proxy puts a credential in', () => {
  it("as a header, in the place of the caller's own", async () => {
    const answer = await send('bearer', {
      path: '/d/bearer/user?a=1',
      headers: { authorization: 'Bearer of-the-caller', accept: 'application/json' },
    })
    expect(answer.status).toBe(200)
    expect(seen('bearer')).toMatchObject({
      method: 'GET',
      url: '/user?a=1',
      headers: {
        authorization: `Bearer ${SECRETS.bearer}`,
        accept: 'application/json',
        host: `127.0.0.1:${services.bearer.port}`,
      },
    })
    await send('plain', { headers: { cookie: 'session=of-the-caller', 'x-key': 'x' } })
    expect(seen('plain').headers).toMatchObject({ cookie: `session=${SECRETS.plain}`, 'x-key': SECRETS.plain })
  })

  it("as a parameter of the query, escaped, in the place of the caller's own", async () => {
    await send('apikey', { path: '/d/apikey/v1?q=x&api+key=mine&api%20key=mine&z' })
    const url = new URL(seen('apikey').url, 'http://x')
    expect([url.searchParams.getAll('api key'), url.searchParams.get('q'), url.searchParams.has('z')]).toEqual([
      [SECRETS.apikey],
      'x',
      true,
    ])
  })

  it('in the path, escaped, in the place of a placeholder', async () => {
    await send('bot', { path: '/d/bot/botBOT_TOKEN/sendMessage?x=1' })
    expect(seen('bot').url).toBe(`/bot${encodeURIComponent(SECRETS.bot)}/sendMessage?x=1`)
  })

  it('in the body, escaped as its type wants it, in the place of a placeholder', async () => {
    await send('form', {
      headers: { 'content-type': 'application/json' },
      body: '{"user":"u","password":"PASSWORD_HERE"}',
    })
    expect(JSON.parse(seen('form').body)).toEqual({ user: 'u', password: SECRETS.form })
    await send('form', {
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      body: 'user=u&password=PASSWORD_HERE',
    })
    expect(new URLSearchParams(seen('form').body).get('password')).toBe(SECRETS.form)
    await send('form', { headers: { 'content-type': 'text/plain' }, body: 'PASSWORD_HEREPASSWORD_HERE' })
    expect(seen('form').body).toBe(SECRETS.form + SECRETS.form)
    expect(seen('form').headers['x-also']).toBe(SECRETS.form)
  })

  it('as a login, or as the password of a user that the file names', async () => {
    await send('login')
    expect(seen('login').headers.authorization).toBe(`Basic ${Buffer.from('svc:p:w-of-svc').toString('base64')}`)
    await send('typed')
    expect(seen('typed').headers.authorization).toBe(`Basic ${Buffer.from('typed:p:w-of-typed').toString('base64')}`)
    await send('named')
    expect(seen('named').headers.authorization).toBe(
      `Basic ${Buffer.from(`x-access-token:${SECRETS.named}`).toString('base64')}`,
    )
  })

  it('and the record says that it was put in, where and with which method, and never the query', async () => {
    const { headers } = await send('bearer', { path: '/d/bearer/search?q=private-words' })
    const records = (await daemon.deputy('audit', 'export')).out
    const record = records.split('\n').filter((line) => line.includes(String(headers['deputy-correlation-id'])))
    expect(record).toHaveLength(1)
    expect(record[0]).toContain(`"injected":{"host":"${services.bearer.url}","method":"GET"}`)
    expect(record[0]).toContain('"outcome":"issued"')
    expect((await daemon.deputy('explain', String(headers['deputy-correlation-id']))).out).toContain(
      `to be put into a GET request to ${services.bearer.url}: the caller does not see it.`,
    )
    expect(records).not.toContain('private-words')
    expect(records).not.toContain(SECRETS.bearer)
  })
})

describe('the caller never sees it', () => {
  it('promise 5: a credential that only the proxy puts in is never handed out, whatever a form says', async () => {
    for (const more of [
      {},
      { injection: 'true' },
      { 'injection[origin]': services.bearer.url, origin: services.bearer.url, method: 'GET' },
      { requested_token_type: 'urn:deputy:params:oauth:token-type:secret' },
    ]) {
      const answer = await daemon.token({
        grant_type: TOKEN_EXCHANGE,
        subject_token: await aToken(),
        subject_token_type: ACCESS_TOKEN,
        audience: 'bearer',
        ...more,
      })
      expect([answer.status, answer.body['reason']]).toEqual([403, 'injection_only'])
      expect(answer.text).not.toContain(SECRETS.bearer)
    }
    const own = await daemon.token({ grant_type: 'client_credentials', audience: 'bearer' })
    expect([own.status, own.body['reason']]).toEqual([403, 'injection_only'])
    expect(
      (
        await daemon.token({
          grant_type: TOKEN_EXCHANGE,
          subject_token: await aToken(),
          subject_token_type: ACCESS_TOKEN,
          audience: 'named',
        })
      ).body['access_token'],
    ).toBe(SECRETS.named)
  })

  it('promise 5, threat 27: an answer that repeats it, in headers or in the body, does so with stars', async () => {
    services.bearer.answer = (request, response) => {
      const token = String(request.headers.authorization)
      response.writeHead(200, {
        'content-type': 'text/plain',
        'x-echo': token,
        etag: Buffer.from(token).toString('base64'),
      })
      response.write(token.slice(0, 12))
      setImmediate(() => {
        response.end(
          `${token.slice(12)} ${encodeURIComponent(token)} ${Buffer.from(`x${token}`).toString('base64')} the rest`,
        )
      })
    }
    const answer = await send('bearer')
    const all = JSON.stringify(answer.headers) + answer.text
    expect(all).not.toContain(SECRETS.bearer)
    for (const word of all.match(/[A-Za-z0-9+/=_-]{8,}/g) ?? [])
      expect(Buffer.from(word, 'base64').toString('latin1')).not.toContain(SECRETS.bearer)
    expect(answer.headers['x-echo']).toBe(`Bearer ${'*'.repeat(SECRETS.bearer.length)}`)
    expect(answer.text.startsWith(`Bearer ${'*'.repeat(SECRETS.bearer.length)} Bearer%20`)).toBe(true)
    expect(answer.text.endsWith(' the rest')).toBe(true)
  })

  it('threat 27: a compressed answer is searched as well, and no caller gets it in parts', async () => {
    const { gzipSync } = await import('node:zlib')
    let asked: unknown
    services.bearer.answer = (request, response) => {
      asked = [request.headers['accept-encoding'], request.headers.range]
      response
        .writeHead(200, { 'content-encoding': 'gzip', 'content-type': 'text/plain' })
        .end(gzipSync(`it is ${request.headers.authorization}`))
    }
    const answer = await send('bearer', { headers: { range: 'bytes=0-12', 'accept-encoding': 'gzip, br' } })
    expect(asked).toEqual(['identity', undefined])
    expect([answer.text, answer.headers['content-encoding']]).toEqual([
      `it is Bearer ${'*'.repeat(SECRETS.bearer.length)}`,
      undefined,
    ])
    services.bearer.answer = (_request, response) => {
      response.writeHead(200, { 'content-encoding': 'sdch' }).end('?')
    }
    expect((await send('bearer')).body['reason']).toBe('upstream_unreachable')
  })

  it('threat 27: a redirect comes back as it is, is followed by nobody and carries no secret', async () => {
    const other = await startService()
    for (const name of ['bearer', 'bot', 'apikey', 'form'] as const) {
      services[name].answer = (request, response) => {
        request.resume()
        response
          .writeHead(307, {
            location: `${other.url}${request.url}?again=${encodeURIComponent(SECRETS[name])}&h=${request.headers['x-also'] ?? request.headers.authorization ?? ''}`,
          })
          .end()
      }
      const answer = await send(name, { path: name === 'bot' ? '/d/bot/botBOT_TOKEN/x' : `/d/${name}/x` })
      expect(answer.status).toBe(307)
      for (const form of [SECRETS[name], encodeURIComponent(SECRETS[name])])
        expect(String(answer.headers.location)).not.toContain(form)
      expect(String(answer.headers.location)).toContain(other.url)
    }
    expect(other.received).toEqual([])
    await other.close()
  })

  it('threat 27: a line break in a credential is refused and reaches nobody', async () => {
    const answer = await send('broken')
    expect([answer.status, answer.body['reason'], answer.headers['deputy-error']]).toEqual([
      502,
      'injection_unsafe',
      'injection_unsafe',
    ])
    expect(answer.text).not.toContain('X-Evil')
    expect(services.broken.received).toEqual([])
  })

  it("threat 18: the user's token reaches no service, neither in a header nor when the service fails", async () => {
    const token = await aToken()
    await send('bearer', {
      headers: {
        'deputy-subject-token': token,
        'deputy-tool': 'search',
        'proxy-authorization': 'Basic bm90ZXM6',
        'proxy-connection': 'keep-alive',
        'deputy-anything': 'x',
        authorization: `Bearer ${token}`,
      },
    })
    expect(JSON.stringify(seen('bearer'))).not.toContain(token)
    expect(Object.keys(seen('bearer').headers).filter((name) => /^(deputy|proxy)-/.test(name))).toEqual([])
    services.bearer.received.length = 0
    for (const [path, headers] of [
      ['/d/bearer/', { 'x-forwarded-authorization': `Bearer ${token}` }],
      [`/d/bearer/?access_token=${token}`, {}],
      [`/d/bearer/${token}`, {}],
    ] as const) {
      expect(
        (await send('bearer', { path, headers: { 'deputy-subject-token': token, ...headers } })).body['reason'],
      ).toBe('malformed_request')
    }
    expect(services.bearer.received).toEqual([])
    services.bearer.answer = (request) => {
      request.socket.destroy()
    }
    const failed = await send('bearer', { headers: { 'deputy-subject-token': token }, body: 'x' })
    expect([failed.status, failed.body['reason']]).toEqual([502, 'upstream_unreachable'])
    expect(failed.text + daemon.output()).not.toContain(token)
    expect(failed.text + daemon.output()).not.toContain(SECRETS.bearer)
  })
})

describe('it goes where the file lets it go', () => {
  it('promise 5: another method, another path and a path that is made to look like an allowed one are refused', async () => {
    expect((await send('limited', { path: '/d/limited/repos/acme/x?q' })).status).toBe(200)
    expect((await send('limited', { path: '/d/limited/repos/acme' })).status).toBe(200)
    services.limited.received.length = 0
    for (const path of [
      '/',
      '/repos/acme-evil',
      '/repos',
      '/repos/acme/../../admin',
      '/repos/acme/%2e%2e/%2e%2e/admin',
      '/repos/acme/..%2f..%2fadmin',
      '/repos/acme/%252e%252e/x',
      '/repos/acme/..;/x',
      '/repos/acme/.%5C..',
      '/repos/acme/..%20/x',
      '/repos/acme/%2E;a/x',
      '/repos/acme/%ff',
      '//repos/acme',
      '/repos//acme',
      '/Repos/acme',
      '/%72epos/acme',
    ]) {
      const answer = await send('limited', { path: `/d/limited${path}` })
      expect([path, answer.status, answer.body['reason']]).toEqual([path, 403, 'injection_refused'])
    }
    for (const options of [
      { method: 'POST', body: 'x' },
      { method: 'DELETE' },
      { headers: { 'x-http-method-override': 'DELETE' } },
    ]) {
      expect((await send('limited', { path: '/d/limited/repos/acme', ...options })).body['reason']).toBe(
        'injection_refused',
      )
    }
    expect(services.limited.received).toEqual([])
    await send('limited', {
      path: '/d/limited/repos/acme',
      headers: { 'x-original-url': '/admin', 'x-rewrite-url': '/admin' },
    })
    expect(Object.keys(seen('limited').headers).filter((name) => name.includes('url'))).toEqual([])
    expect((await daemon.deputy('audit', 'export')).out).toContain('injection_refused')
  })

  it('a downstream without `inject`, one that is not registered and one that is not there are refused', async () => {
    expect((await send('ledger')).body['reason']).toBe('injection_not_offered')
    for (const name of ['mail', 'nothing']) expect((await send(name)).body['reason']).toBe('target_unknown')
    expect((await send('..%2f', { path: '/d/../x' })).status).toBe(404)
  })

  it('a placeholder in a place where nothing is put in is refused', async () => {
    for (const [name, path, headers] of [
      ['bot', '/d/bot/x?token=BOT_TOKEN', {}],
      ['bot', '/d/bot/x', { 'x-y': 'BOT_TOKEN' }],
      ['form', '/d/form/PASSWORD_HERE', {}],
    ] as const) {
      const answer = await send(name, { path, headers })
      expect([answer.status, answer.body['reason']]).toEqual([400, 'placeholder_misplaced'])
    }
    expect((await send('form', { headers: { 'content-encoding': 'gzip' }, body: 'x' })).body['reason']).toBe(
      'unsupported_media_type',
    )
  })
})

describe('for whom a request is', () => {
  it('threat 12: is said, once; nothing stands in for it', async () => {
    const without = (headers: Record<string, string | string[]>) =>
      ask({ socketPath: daemon.proxySocket }, { path: '/d/bearer/', headers })
    const token = await aToken()
    for (const [headers, reason] of [
      [{}, 'beneficiary_missing'],
      [{ 'deputy-subject-token': '' }, 'beneficiary_missing'],
      [{ 'deputy-on-behalf-of': '' }, 'beneficiary_missing'],
      [{ 'deputy-on-behalf-of': 'alice' }, 'malformed_request'],
      [{ 'deputy-subject-token': token, 'deputy-on-behalf-of': 'server' }, 'malformed_request'],
      [{ 'deputy-subject-token': '', 'deputy-on-behalf-of': 'server' }, 'malformed_request'],
      [{ 'deputy-subject-token': [token, token] }, 'parameter_repeated'],
      [{ 'deputy-on-behalf-of': ['server', 'server'] }, 'parameter_repeated'],
      [{ 'deputy-subject-token-type': 'urn:x:token-type:y', 'deputy-on-behalf-of': 'server' }, 'parameter_missing'],
      [{ 'deputy-on-behalf-of': 'session' }, 'subject_session_missing'],
      [{ authorization: `Bearer ${token}` }, 'beneficiary_missing'],
    ] as const)
      expect([headers, (await without(headers as never)).body['reason']]).toEqual([headers, reason])
    expect(services.bearer.received).toEqual([])
  })

  it('promise 2: a token for another server counts here as little as anywhere', async () => {
    expect(
      (
        await send('bearer', {
          headers: { 'deputy-subject-token': await issuer.sign({ aud: RESOURCES.calendar, org: 'acme' }) },
        })
      ).body['reason'],
    ).toBe('subject_audience_mismatch')
  })

  it('a server may act for itself at what is under `service_downstreams`', async () => {
    const answer = await ask(
      { socketPath: daemon.proxySocket },
      { path: '/d/named/', headers: { 'deputy-on-behalf-of': 'server' } },
    )
    expect(answer.status).toBe(200)
    expect((await daemon.deputy('explain', String(answer.headers['deputy-correlation-id']))).out).toContain('notes')
  })

  it('promise 4: a user who has been revoked is refused with the next request', async () => {
    const token = await aToken('mallory')
    expect((await send('bearer', { headers: { 'deputy-subject-token': token } })).status).toBe(200)
    await daemon.deputy('revoke', '--tenant', 'acme', '--user', 'mallory')
    services.bearer.received.length = 0
    expect((await send('bearer', { headers: { 'deputy-subject-token': token } })).body['reason']).toBe('revoked')
    expect(services.bearer.received).toEqual([])
  })
})
