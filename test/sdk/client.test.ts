import { execFile } from 'node:child_process'
import { readdir, readFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { inspect, promisify } from 'node:util'
import { decodeJwt } from 'jose'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { connectDeputy, DeputyClientError, SERVER, SESSION, type Deputy } from '../../src/sdk/index.ts'
import { aCompany, LEDGER, RESOURCES } from '../support/configuration.ts'
import { startDaemonHere, startTestIssuer, type RunningDaemon, type TestIssuer } from '../support/daemon.ts'

const failure = async (work: Promise<unknown>): Promise<DeputyClientError> => {
  try {
    await work
  } catch (error) {
    if (error instanceof DeputyClientError) return error
    throw error
  }
  throw new Error('it did not fail')
}

/** A service that answers as it is told, and remembers what it was sent. */
const aService = async () => {
  const seen: { path: string; method: string; authorization: string | undefined; body: string }[] = []
  let answer: (request: IncomingMessage, response: ServerResponse) => void = (_request, response) => {
    response.end('ok')
  }
  const server = createServer((request, response) => {
    let body = ''
    request.on('data', (chunk: Buffer) => {
      body += chunk.toString('utf8')
    })
    request.on('end', () => {
      seen.push({
        path: request.url ?? '',
        method: request.method ?? '',
        authorization: request.headers.authorization,
        body,
      })
      answer(request, response)
    })
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  return {
    seen,
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    answers(next: typeof answer) {
      answer = next
    },
    close: () =>
      new Promise<void>((resolve) => {
        server.close(() => {
          resolve()
        })
        server.closeAllConnections()
      }),
  }
}

describe('the SDK at a real daemon', () => {
  let issuer: TestIssuer
  let daemon: RunningDaemon
  let deputy: Deputy
  let service: Awaited<ReturnType<typeof aService>>
  let user: string
  beforeAll(async () => {
    issuer = await startTestIssuer()
    daemon = await startDaemonHere(
      aCompany({
        issuer: issuer.url,
        notes: {
          tenants: ['acme'],
          service_downstreams: { ledger: { scopes: ['ledger:read'] } },
          tools: { list: { downstream: 'ledger', scopes: ['ledger:read'] } },
        },
      }),
    )
    expect((await daemon.deputy('check')).code).toBe(0)
  })
  afterAll(async () => {
    await daemon?.close()
    await issuer?.close()
  })
  beforeEach(async () => {
    service = await aService()
    deputy = connectDeputy({ environment: { DEPUTY_SOCKET: daemon.socketPath } })
    user = await issuer.sign({ aud: RESOURCES.notes, org: 'acme', groups: ['engineering'] })
  })
  afterEach(async () => {
    deputy.close()
    await service.close()
  })

  it('gets a token for a user, and for the server itself', async () => {
    const token = await deputy.token({ downstream: 'ledger', onBehalfOf: user, scopes: ['ledger:read'], tool: 'list' })
    expect(decodeJwt(token.reveal())).toMatchObject({ aud: LEDGER, client_id: 'notes', act: { sub: 'notes' } })
    expect(token).toMatchObject({ type: 'Bearer', scopes: ['ledger:read'] })
    expect(token.expiresAt).toBeGreaterThan(Date.now())
    expect(decodeJwt((await deputy.token({ downstream: 'ledger', onBehalfOf: SERVER })).reveal())).toMatchObject({
      sub: 'notes',
    })
  })

  it('promise 5: a token does not print itself', async () => {
    const token = await deputy.token({ downstream: 'ledger', onBehalfOf: user })
    for (const text of [
      String(token),
      JSON.stringify({ token }),
      inspect(token),
      inspect({ token }, { depth: 9, showHidden: true }),
    ])
      expect(text).not.toContain(token.reveal())
  })

  it('promise 9: says what Deputy has said, with the next step', async () => {
    expect(await failure(deputy.token({ downstream: 'nothing', onBehalfOf: user }))).toMatchObject({
      reason: 'target_unknown',
      error: 'invalid_target',
      next: expect.stringMatching(/downstreams/),
      correlationId: expect.any(String),
    })
    const foreign = await issuer.sign({ aud: RESOURCES.calendar, org: 'acme' })
    expect(await failure(deputy.token({ downstream: 'ledger', onBehalfOf: foreign }))).toMatchObject({
      reason: 'subject_audience_mismatch',
    })
    expect(await failure(deputy.token({ downstream: 'ledger', onBehalfOf: SESSION }))).toMatchObject({
      reason: 'subject_session_not_allowed',
    })
  })

  it('waits for a daemon that restarts, and says so when there is none', async () => {
    const early = connectDeputy({ socket: daemon.socketPath, patience: 200 })
    await daemon.stop()
    expect(await failure(early.token({ downstream: 'ledger', onBehalfOf: user }))).toMatchObject({
      reason: 'unreachable',
      next: expect.stringMatching(/DEPUTY_SOCKET/),
    })
    const patient = connectDeputy({ socket: daemon.socketPath, patience: 40_000 })
    const waiting = patient.token({ downstream: 'ledger', onBehalfOf: user })
    await daemon.start()
    expect((await waiting).type).toBe('Bearer')
    for (const each of [early, patient]) each.close()
  })

  it('a fetch carries the credential', async () => {
    const response = await deputy.fetch('ledger', user)(`${service.url}/entries`, {
      method: 'POST',
      body: 'x',
      headers: { 'content-type': 'text/plain' },
    })
    expect(await response.text()).toBe('ok')
    expect(decodeJwt(service.seen[0]!.authorization!.replace('Bearer ', ''))).toMatchObject({ aud: LEDGER })
    expect(service.seen[0]).toMatchObject({ path: '/entries', method: 'POST', body: 'x' })
  })

  it('a fetch asks once more after a 401, and sends the body again if that can be had', async () => {
    service.answers((_request, response) => {
      response.writeHead(service.seen.length === 1 ? 401 : 200).end()
    })
    // Each request of another token: what is minted for one subject token is not given for another.
    let count = 0
    const changing = connectDeputy({ socket: daemon.socketPath, fetch })
    const first = await changing.token({ downstream: 'ledger', onBehalfOf: user })
    const fetching = createFetchWith(async () =>
      (count += 1) === 1
        ? first
        : changing.token({
            downstream: 'ledger',
            onBehalfOf: await issuer.sign({
              aud: RESOURCES.notes,
              org: 'acme',
              groups: ['engineering'],
              jti: `another-${count}`,
            }),
          }),
    )
    expect((await (await fetching)(`${service.url}/`, { method: 'POST', body: 'again' })).status).toBe(200)
    expect(service.seen.map(({ body }) => body)).toEqual(['again', 'again'])
    changing.close()
  })

  it('fault 20: a fetch reports a credential that is refused, gets a fresh one once, and then lets the 401 stand', async () => {
    service.answers((_request, response) => {
      response.writeHead(401).end()
    })
    expect((await deputy.fetch('ledger', user)(service.url)).status).toBe(401)
    expect(new Set(service.seen.map(({ authorization }) => authorization)).size).toBe(2)
    expect((await deputy.fetch('ledger', user)(service.url)).status).toBe(401)
    expect(service.seen).toHaveLength(3)
  })

  it('a fetch sends a stream once', async () => {
    service.answers((_request, response) => {
      response.writeHead(401).end()
    })
    const stream = new Blob(['x']).stream()
    expect(
      (await deputy.fetch('ledger', user)(service.url, { method: 'POST', body: stream, duplex: 'half' } as RequestInit))
        .status,
    ).toBe(401)
    expect(service.seen).toHaveLength(1)
  })

  it('threat 27: a redirect to another origin is not followed with the credential; one within it is', async () => {
    const other = await aService()
    service.answers((request, response) => {
      if (request.url === '/away') response.writeHead(302, { location: `${other.url}/stolen` }).end()
      else if (request.url === '/here') response.writeHead(302, { location: '/there' }).end()
      else response.end('there')
    })
    const fetching = deputy.fetch('ledger', user)
    expect((await fetching(`${service.url}/away`)).status).toBe(302)
    expect(other.seen).toEqual([])
    expect(await (await fetching(`${service.url}/here`)).text()).toBe('there')
    expect(service.seen.at(-1)!.authorization).toBeDefined()
    service.answers((_request, response) => {
      response.writeHead(302, { location: '/again' }).end()
    })
    expect((await fetching(`${service.url}/again`)).status).toBe(302)
    await other.close()
  })

  it('fault 79, threat 18: a proxy of the environment does not see a credential for a service on this machine', async () => {
    const proxy = await aService()
    const environment = { DEPUTY_SOCKET: daemon.socketPath, HTTP_PROXY: proxy.url, NODE_USE_ENV_PROXY: '1' }
    const script = `
      import { connectDeputy } from ${JSON.stringify(join(import.meta.dirname, '../../src/sdk/index.ts'))}
      const deputy = connectDeputy()
      const send = deputy.fetch('ledger', process.env.USER_TOKEN)
      const url = process.env.SERVICE
      const answers = [
        await (await send(url + '/text', { method: 'POST', body: 'x' })).text(),
        await (await send(url + '/stream', { method: 'POST', body: new Blob(['y']).stream(), duplex: 'half' })).text(),
        (await send(url + '/none')).status,
        (await send(url + '/away')).headers.getSetCookie(),
      ]
      console.log(JSON.stringify(answers))
      deputy.close()
      process.exit(0)`
    service.answers((request, response) => {
      if (request.url === '/none') response.writeHead(204).end()
      else if (request.url === '/away')
        response.writeHead(302, { location: 'http://127.0.0.1:1/', 'set-cookie': ['a=1', 'b=2'] }).end()
      else response.end(service.seen.at(-1)!.body)
    })
    const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script], {
      env: { ...environment, USER_TOKEN: user, SERVICE: service.url },
    })
    expect(JSON.parse(stdout)).toEqual(['x', 'y', 204, ['a=1', 'b=2']])
    expect([proxy.seen, service.seen.every(({ authorization }) => authorization?.startsWith('Bearer '))]).toEqual([
      [],
      true,
    ])
    await proxy.close()
  })

  it('fault 81, promise 1: what cannot be meant is an error, and nothing is asked', async () => {
    const token = await deputy.token({ downstream: 'ledger', onBehalfOf: user })
    const wrong: object[] = [
      { onBehalfOf: user, scopes: [] },
      { onBehalfOf: user, scopes: 'ledger:read' },
      { onBehalfOf: undefined },
      { onBehalfOf: '' },
      { onBehalfOf: token },
      { onBehalfOf: { token: undefined } },
    ]
    for (const each of wrong)
      await expect(deputy.token({ downstream: 'ledger', ...each } as never)).rejects.toThrow(TypeError)
    expect(() => connectDeputy({ tcp: 'deputy.example:7880' })).toThrow(TypeError)
    connectDeputy({ tcp: '[::1]:7880' }).close()
  })

  it('threat 18: a credential is not sent in clear to another machine', async () => {
    expect(await failure(deputy.fetch('ledger', user)('http://service.example/'))).toMatchObject({
      reason: 'insecure_url',
    })
    expect(await failure(deputy.fetch('ledger', user)('http://127.evil.example/'))).toMatchObject({
      reason: 'insecure_url',
    })
  })
})

const createFetchWith = async (token: () => Promise<Awaited<ReturnType<Deputy['token']>>>) =>
  (await import('../../src/sdk/fetch.ts')).createFetch({ token, fetch })

describe('the SDK', () => {
  it('tells what a provider says beside its token, and the claims that a service wants to hear', async () => {
    const double = await aService()
    const deputy = connectDeputy({ tcp: double.url.replace('http://', ''), clientId: 'notes', clientSecret: 'secret' })
    double.answers((_request, response) => {
      response.end(
        JSON.stringify({
          access_token: 't',
          issued_token_type: 'urn:x',
          token_type: 'Bearer',
          expires_in: 60,
          scope: 'read',
          instance_url: 'https://acme.example',
          count: 7,
        }),
      )
    })
    expect((await deputy.token({ downstream: 'd', onBehalfOf: 't' })).fields).toEqual({
      instance_url: 'https://acme.example',
    })
    double.answers((_request, response) => {
      response.writeHead(400).end(
        JSON.stringify({
          error: 'interaction_required',
          reason: 'step_up_required',
          error_description: 'x',
          next: 'y',
          claims: '{"access_token":{}}',
        }),
      )
    })
    expect(await failure(deputy.token({ downstream: 'd', onBehalfOf: 't' }))).toMatchObject({
      reason: 'step_up_required',
      connectUrl: undefined,
      claims: '{"access_token":{}}',
    })
    deputy.close()
    await double.close()
  })

  it('faults 82 and 86: sends no login as a bearer token, and asks a slow Deputy once', async () => {
    const double = await aService()
    double.answers((_request, response) => {
      if (double.seen.length === 1)
        response.end(JSON.stringify({ access_token: '{}', token_type: 'N_A', expires_in: 60, scope: '' }))
    })
    const deputy = connectDeputy({ tcp: double.url.replace('http://', ''), clientId: 'notes', timeout: 300 })
    expect(await failure(deputy.fetch('login', 't')(double.url))).toMatchObject({ reason: 'not_bearer' })
    expect(await failure(deputy.token({ downstream: 'slow', onBehalfOf: 't' }))).toMatchObject({ reason: 'timeout' })
    expect(double.seen).toHaveLength(2)
    deputy.close()
    await double.close()
  })

  it('says where the user connects', async () => {
    const double = await aService()
    double.answers((_request, response) => {
      response.writeHead(400, { 'content-type': 'application/json', 'x-correlation-id': 'c' }).end(
        JSON.stringify({
          error: 'interaction_required',
          reason: 'interaction_required',
          error_description: 'x',
          next: 'y',
          connect_url: 'https://connect.example/c/1',
        }),
      )
    })
    const deputy = connectDeputy({ tcp: double.url.replace('http://', ''), clientId: 'notes', clientSecret: 'secret' })
    expect(await failure(deputy.token({ downstream: 'd', onBehalfOf: 't' }))).toMatchObject({
      reason: 'interaction_required',
      connectUrl: 'https://connect.example/c/1',
    })
    expect(new URLSearchParams(double.seen[0]!.body).get('client_id')).toBe('notes')
    double.answers((_request, response) => {
      response.end('<html>not Deputy</html>')
    })
    expect(await failure(deputy.token({ downstream: 'd', onBehalfOf: 't' }))).toMatchObject({ reason: 'unreachable' })
    double.answers((_request, response) => {
      response.end('{"hello":"world"}')
    })
    expect(await failure(deputy.token({ downstream: 'd', onBehalfOf: 't' }))).toMatchObject({
      reason: 'unexpected_answer',
    })
    deputy.close()
    await double.close()
  })

  describe('a fetch that may use a credential again', () => {
    const at = async (reuse: number) => {
      const [double, service] = [await aService(), await aService()]
      let now = 1_000_000
      double.answers((_request, response) => {
        response.end(
          JSON.stringify({
            access_token: `token-${double.seen.length}`,
            issued_token_type: 'urn:x',
            token_type: 'Bearer',
            expires_in: 20,
            scope: '',
          }),
        )
      })
      const deputy = connectDeputy({
        tcp: double.url.replace('http://', ''),
        clientId: 'notes',
        clientSecret: 'secret',
        now: () => now,
        reuse,
      })
      const get = async (user: string, more: object = {}): Promise<string> => {
        await deputy.fetch('ledger', user, more)(service.url)
        return service.seen.at(-1)!.authorization!
      }
      return {
        double,
        service,
        deputy,
        get,
        pass(ms: number) {
          now += ms
        },
        async close() {
          deputy.close()
          await double.close()
          await service.close()
        },
      }
    }

    it('asks once for as long as it may, and no longer than the credential lives; without, it asks with each request', async () => {
      const held = await at(30_000)
      expect([await held.get('a'), await held.get('a')]).toEqual(['Bearer token-1', 'Bearer token-1'])
      held.pass(19_999)
      expect(await held.get('a')).toBe('Bearer token-1')
      held.pass(1)
      expect(await held.get('a')).toBe('Bearer token-2')
      await held.close()
      const short = await at(100)
      await short.get('a')
      short.pass(100)
      expect(await short.get('a')).toBe('Bearer token-2')
      await short.close()
      const none = await at(0)
      expect([await none.get('a'), await none.get('a')]).toEqual(['Bearer token-1', 'Bearer token-2'])
      await none.close()
      for (const reuse of [-1, 60_001, Number.NaN]) expect(() => connectDeputy({ reuse })).toThrow(TypeError)
    })

    it('promise 1, threat 24: uses it for the same question alone: user, scopes and tool', async () => {
      const { get, double, close } = await at(30_000)
      const wishes = [
        ['a'],
        ['b'],
        ['a', { scopes: ['read'] }],
        ['a', { tool: 'list' }],
        ['a', { scopes: ['read'], tool: 'list' }],
      ] as const
      const given = []
      for (const [user, more] of [...wishes, ...wishes]) given.push(await get(user, more))
      expect(given).toEqual([...Array(2)].flatMap(() => wishes.map((_, at) => `Bearer token-${at + 1}`)))
      expect(double.seen).toHaveLength(wishes.length)
      await close()
    })

    it('asks anew after a 401, and goes on with what it got then; what is refused is held no longer', async () => {
      const { get, service, double, close } = await at(30_000)
      await get('a')
      service.answers((_request, response) => {
        response.writeHead(service.seen.at(-1)!.authorization === 'Bearer token-1' ? 401 : 200).end()
      })
      expect([await get('a'), await get('a')]).toEqual(['Bearer token-2', 'Bearer token-2'])
      service.answers((_request, response) => {
        response.writeHead(401).end()
      })
      double.answers((_request, response) => {
        response
          .writeHead(400)
          .end(JSON.stringify({ error: 'access_denied', reason: 'revoked', error_description: 'x', next: 'y' }))
      })
      for (let count = 0; count < 2; count += 1) expect(await failure(get('a'))).toMatchObject({ reason: 'revoked' })
      await close()
    })
  })

  it('needs nothing but Node', async () => {
    const folder = join(import.meta.dirname, '../../src/sdk')
    for (const file of (await readdir(folder)).filter((name) => name.endsWith('.ts'))) {
      for (const [, from] of (await readFile(join(folder, file), 'utf8')).matchAll(/from '([^']+)'/g))
        expect([file, from]).toEqual([file, expect.stringMatching(/^(node:|\.\/)/)])
    }
  })
})
