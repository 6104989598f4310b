import { Agent } from 'node:http'
import { connect } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { freePort } from '../support/process.ts'
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

let issuer: TestIssuer
let daemon: RunningDaemon
let tcp: number

beforeAll(async () => {
  issuer = await startTestIssuer()
  tcp = await freePort()
  daemon = await startDaemonHere(aCompany({ issuer: issuer.url }), {
    listen: { tcp: `127.0.0.1:${tcp}` },
    limits: { header_timeout: '1s', request_timeout: '2s' },
  })
})
afterAll(async () => {
  await daemon?.close()
  await issuer?.close()
})

const FORM = { 'content-type': 'application/x-www-form-urlencoded' }
const at = () => ({ port: tcp })

describe('the local API over loopback TCP', () => {
  it("promise 10, threat 1: a foreign Host, any Origin, and a browser's request are refused before anything else", async () => {
    for (const headers of [
      { host: 'evil.example' },
      { host: `evil.example:${tcp}` },
      { host: '127.0.0.1' },
      { host: `127.0.0.1:${tcp}@evil.example` },
      { origin: 'https://evil.example' },
      { origin: 'null' },
      { origin: `http://127.0.0.1:${tcp}` },
      { 'sec-fetch-site': 'cross-site' },
      { origin: ['https://a.example', 'https://b.example'] },
    ]) {
      const answer = await ask(at(), { path: '/healthz', headers: headers as Record<string, string> })
      expect([headers, answer.status, answer.body['reason']]).toEqual([headers, 403, 'foreign_caller'])
      expect(answer.headers['access-control-allow-origin']).toBeUndefined()
    }
    expect((await ask(at(), { path: '/healthz' })).status).toBe(200)
    expect((await ask(at(), { path: '/healthz', headers: { host: `LOCALHOST:${tcp}` } })).status).toBe(200)
  })

  it('over TCP the kernel says nothing: who has no other proof is refused and written down', async () => {
    const answer = await ask(at(), {
      path: '/oauth2/token',
      headers: FORM,
      body: 'grant_type=client_credentials&audience=ledger&client_id=shadow',
    })
    expect(answer).toMatchObject({ status: 401, body: { error: 'invalid_client', reason: 'workload_unknown' } })
    expect(answer.headers['www-authenticate']).toContain('Basic')
    expect((await daemon.deputy('server', 'unknown')).out).toContain('shadow')
  })
})

describe('bad input', () => {
  it("promise 9: every mistake gets the standard's code, a sentence, a next step and a correlation id", async () => {
    const cases: [Parameters<typeof ask>[1], number, string][] = [
      [{ path: '/nowhere' }, 404, 'not_found'],
      [{ path: '/oauth2/token' }, 405, 'method_not_allowed'],
      [{ path: '/oauth2/token?grant_type=x', headers: FORM, body: 'a=b' }, 400, 'malformed_request'],
      [
        { path: '/oauth2/token', headers: { 'content-type': 'application/json' }, body: '{}' },
        415,
        'unsupported_media_type',
      ],
      [{ path: '/oauth2/token', headers: FORM, body: '' }, 400, 'parameter_missing'],
      [{ path: '/oauth2/token', headers: FORM, body: 'grant_type=password' }, 400, 'unsupported_grant_type'],
      [{ path: '/oauth2/token', headers: FORM, body: 'grant_type=a&grant_type=b' }, 400, 'parameter_repeated'],
      [{ path: '/oauth2/token', headers: FORM, body: 'grant_type=%ff' }, 400, 'malformed_request'],
      [{ path: '/oauth2/token', headers: FORM, body: Buffer.from([0x61, 0x3d, 0xff]) }, 400, 'malformed_request'],
      [{ path: '/oauth2/token', headers: FORM, body: `a=${'x'.repeat(1_000_000)}` }, 413, 'body_too_large'],
      [
        {
          path: '/oauth2/token',
          headers: { ...FORM, authorization: 'Bearer x' },
          body: 'grant_type=client_credentials',
        },
        400,
        'malformed_request',
      ],
      [
        {
          path: '/oauth2/token',
          headers: FORM,
          body: `grant_type=${TOKEN_EXCHANGE}&subject_token=x&subject_token_type=${ACCESS_TOKEN}&audience=ledger&actor_token=y`,
        },
        400,
        'malformed_request',
      ],
      [
        { path: '/oauth2/token', headers: FORM, body: 'grant_type=client_credentials&scope=a++b&audience=ledger' },
        400,
        'malformed_request',
      ],
      [
        { path: '/oauth2/token', headers: FORM, body: 'grant_type=client_credentials&resource=%23x' },
        400,
        'malformed_request',
      ],
    ]
    for (const [request, status, code] of cases) {
      const answer = await ask(daemon, request)
      expect([request.body?.toString().slice(0, 60), answer.status, answer.body['reason']]).toEqual([
        request.body?.toString().slice(0, 60),
        status,
        code,
      ])
      for (const field of ['error', 'error_description', 'next', 'correlation_id'])
        expect(answer.body[field]).toBeTypeOf('string')
      expect(answer.text).not.toMatch(/at .*\.ts:\d+/)
    }
  })

  it('promise 9: a body over the limit is refused with an answer that arrives, and the connection serves on', async () => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    for (let turn = 0; turn < 20; turn += 1) {
      // Without an agent the client asks for the connection to be closed, which must not cut its own request short.
      for (const connection of [{ agent }, {}]) {
        expect(
          (
            await ask(daemon, {
              path: '/oauth2/token',
              headers: FORM,
              body: `a=${'x'.repeat(3_000_000)}`,
              ...connection,
            })
          ).body['reason'],
        ).toBe('body_too_large')
        expect(
          (
            await ask(daemon, {
              path: '/nowhere',
              headers: { 'content-type': 'text/plain' },
              body: 'x'.repeat(3_000_000),
              ...connection,
            })
          ).body['reason'],
        ).toBe('not_found')
      }
      expect((await ask(daemon, { path: '/healthz', agent })).status).toBe(200)
    }
    agent.destroy()
  })

  it('promise 9: unknown parameters are ignored, as RFC 6749 section 3.2 wants', async () => {
    const subject = await issuer.sign({ aud: RESOURCES.notes, org: 'acme' })
    const answer = await daemon.token({
      grant_type: TOKEN_EXCHANGE,
      subject_token: subject,
      subject_token_type: ACCESS_TOKEN,
      audience: 'ledger',
      surprise: 'yes',
    })
    expect(answer.status).toBe(200)
  })

  it('promise 9: a client that sends slowly, half-closes or sends garbage is ended in bounded time', async () => {
    for (const bytes of [
      'POST /oauth2/token HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\na=',
      'GET /healthz HT',
      'garbage\r\n\r\n',
    ]) {
      const socket = connect(daemon.socketPath)
      socket.write(bytes)
      const began = Date.now()
      await new Promise<void>((resolve) => {
        socket.on('close', () => {
          resolve()
        })
        socket.on('error', () => {
          resolve()
        })
        socket.resume()
      })
      expect(Date.now() - began).toBeLessThan(8000)
    }
    expect((await ask(daemon, { path: '/healthz' })).status).toBe(200)
  })

  it('promise 5, threats 4 and 18: the subject token is in no log, record, error or file of the store', async () => {
    const { readFile } = await import('node:fs/promises')
    const subject = await issuer.sign({ aud: RESOURCES.notes, org: 'acme', sub: 'canary-user' })
    const good = await daemon.token({
      grant_type: TOKEN_EXCHANGE,
      subject_token: subject,
      subject_token_type: ACCESS_TOKEN,
      audience: 'ledger',
    })
    const bad = await daemon.token({
      grant_type: TOKEN_EXCHANGE,
      subject_token: `${subject}x`,
      subject_token_type: ACCESS_TOKEN,
      audience: 'ledger',
    })
    const [, , signature] = subject.split('.') as [string, string, string]
    const records = (await daemon.deputy('audit', 'export')).out
    const files = await Promise.all(
      ['deputy.db', 'deputy.db-wal'].map((name) =>
        readFile(`${daemon.home}/state/${name}`).catch(() => Buffer.alloc(0)),
      ),
    )
    for (const text of [bad.text, records, ...files.map((file) => file.toString('latin1'))]) {
      expect(text).not.toContain(signature)
      expect(text).not.toContain(String(good.body['access_token']).split('.')[2])
    }
    expect(records).toContain('canary-user')
  })
})
