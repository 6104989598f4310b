import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { decodeJwt } from 'jose'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { aCompany, LEDGER, RESOURCES } from '../support/configuration.ts'
import { startDaemonProcess, startTestIssuer, type Daemon, type TestIssuer } from '../support/daemon.ts'

const PYTHON = '/usr/bin/python3'
const PACKAGE = join(import.meta.dirname, '../../sdk/python')

const hasPython = existsSync(PYTHON)
if (!hasPython)
  process.stderr.write('\n*** SKIPPED: the tests of the Python client. Install the package `python3`. ***\n\n')

/** What the script sees before it begins. Each answers one line of JSON. */
const PRELUDE = `
import copy, json, os, pickle, sys, threading, time
from deputy_client import connect_deputy, DeputyError, SERVER, SESSION
deputy = connect_deputy()
user, service = os.environ["USER_TOKEN"], os.environ["SERVICE"]
def failure(work):
    try: work()
    except DeputyError as error: return {"reason": error.reason, "next": error.next, "error": error.error, "id": error.correlation_id, "connect_url": error.connect_url}
def answer(value): print(json.dumps(value))
`

describe.skipIf(!hasPython)('the Python client at a real daemon', () => {
  let issuer: TestIssuer
  let daemon: Daemon
  let service: {
    url: string
    seen: { path: string; authorization: string | undefined; body: string }[]
    close(): Promise<void>
  }
  let other: typeof service
  const aService = async (): Promise<typeof service> => {
    const seen: typeof service.seen = []
    const server = createServer((request, response) => {
      let body = ''
      request.on('data', (chunk: Buffer) => {
        body += chunk.toString('utf8')
      })
      request.on('end', () => {
        seen.push({ path: request.url ?? '', authorization: request.headers.authorization, body })
        if (request.url === '/away') response.writeHead(302, { location: `${other.url}/stolen` }).end()
        else if (request.url === '/here') response.writeHead(302, { location: '/there' }).end()
        else if (request.url === '/refused') response.writeHead(401).end('no')
        else response.end(`${request.method} ${request.url}`)
      })
    })
    await new Promise<void>((resolve) => {
      server.listen(0, '127.0.0.1', resolve)
    })
    return {
      url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      seen,
      close: () =>
        new Promise((resolve) => {
          server.close(() => {
            resolve()
          })
          server.closeAllConnections()
        }),
    }
  }
  beforeAll(async () => {
    issuer = await startTestIssuer()
    daemon = await startDaemonProcess(
      aCompany({ issuer: issuer.url, notes: { tenants: ['acme'], own: { ledger: { scopes: ['ledger:read'] } } } }),
    )
    other = await aService()
    service = await aService()
  })
  afterAll(async () => {
    await daemon?.close()
    await issuer?.close()
    await service?.close()
    await other?.close()
  })

  const run = async (script: string, environment: Record<string, string> = {}): Promise<unknown> => {
    const { stdout } = await promisify(execFile)(
      PYTHON,
      [
        '-I',
        '-c',
        `import sys; sys.path.insert(0, ${JSON.stringify(PACKAGE)}); sys.dont_write_bytecode = True\n${PRELUDE}\n${script}`,
      ],
      {
        env: {
          DEPUTY_SOCKET: daemon.socketPath,
          USER_TOKEN: await issuer.sign({ aud: RESOURCES.notes, org: 'acme', groups: ['engineering'] }),
          SERVICE: service.url,
          ...environment,
        },
        timeout: 80_000,
      },
    )
    return JSON.parse(stdout)
  }

  it('gets a token for a user and for the server itself, which does not print or pickle itself', async () => {
    const [user, own, shown, kept] = (await run(`
token = deputy.token("ledger", on_behalf_of=user, scopes=["ledger:read"])
try: pickle.dumps(token); kept = True
except TypeError: kept = False
answer([token.reveal(), deputy.token("ledger", on_behalf_of=SERVER).reveal(), [repr(token), str(token), "%r" % [token], token.scopes, token.type, token.expires_at > time.time()], kept])`)) as [
      string,
      string,
      unknown[],
      boolean,
    ]
    expect(decodeJwt(user)).toMatchObject({ aud: LEDGER, act: { sub: 'notes' } })
    expect(decodeJwt(own)).toMatchObject({ sub: 'notes' })
    expect([...shown, kept]).toEqual(['[token]', '[token]', '[[token]]', ['ledger:read'], 'Bearer', true, false])
  })

  it('promise 9: says what Deputy has said, and what to do when it is not there', async () => {
    expect(
      await run(
        'answer([failure(lambda: deputy.token("nothing", user)), failure(lambda: deputy.token("ledger", SESSION))])',
      ),
    ).toMatchObject([
      { reason: 'target_unknown', next: expect.stringMatching(/downstreams/), id: expect.any(String) },
      { reason: 'subject_session_not_allowed' },
    ])
    expect(
      await run('answer(failure(lambda: connect_deputy("/no/such/socket", patience=0.2).token("ledger", user)))'),
    ).toMatchObject({ reason: 'unreachable', next: expect.stringMatching(/DEPUTY_SOCKET/) })
    expect(await run('answer(failure(lambda: connect_deputy(tcp=service[7:]).token("ledger", user)))')).toMatchObject({
      reason: 'unexpected_answer',
    })
  })

  it('waits for a daemon that restarts', async () => {
    await daemon.stop()
    const waiting = run('answer(connect_deputy(patience=60).token("ledger", user).type)')
    // It is looked at when the daemon is there again.
    waiting.catch(() => undefined)
    await new Promise((resolve) => {
      setTimeout(resolve, 500)
    })
    await daemon.start()
    expect(await waiting).toBe('Bearer')
  })

  it('threats 18 and 27: a fetch carries the credential, within one origin and not in clear to another machine', async () => {
    service.seen.length = 0
    expect(
      await run(`
fetch = deputy.fetch("ledger", on_behalf_of=user)
def shown(response): return [response.status, response.body.decode()]
answer([shown(fetch(service + "/entries", method="POST", data=b"x")), shown(fetch(service + "/here")), fetch(service + "/away").status, fetch(service + "/refused").status,
  failure(lambda: fetch("http://service.example/"))["reason"], failure(lambda: fetch("http://127.evil.example/"))["reason"]])`),
    ).toEqual([[200, 'POST /entries'], [200, 'GET /there'], 302, 401, 'insecure_url', 'insecure_url'])
    expect(other.seen).toEqual([])
    // Fault 20: what was refused is reported, and sent once more with the fresh credential.
    expect(service.seen.map(({ path }) => path)).toEqual([
      '/entries',
      '/here',
      '/there',
      '/away',
      '/refused',
      '/refused',
    ])
    for (const { authorization } of service.seen)
      expect(decodeJwt(authorization!.replace('Bearer ', ''))).toMatchObject({ aud: LEDGER })
    expect(service.seen[0]!.body).toBe('x')
  })
})
