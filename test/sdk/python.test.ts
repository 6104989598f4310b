import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { decodeJwt } from 'jose'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { aCompany, LEDGER, RESOURCES } from '../support/configuration.ts'
import { startDaemonHere, startTestIssuer, type RunningDaemon, type TestIssuer } from '../support/daemon.ts'

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
  let daemon: RunningDaemon
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
        else if (request.url === '/kept') response.writeHead(307, { location: '/there' }).end()
        else if (request.url === '/cookies') response.writeHead(200, { 'set-cookie': ['a=1', 'b=2'] }).end()
        else if (body.includes('audience=login'))
          response.end(JSON.stringify({ access_token: '{}', token_type: 'N_A', expires_in: 60 }))
        else if (body.includes('audience=slow')) setTimeout(() => response.end('{}'), 5000).unref()
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
    daemon = await startDaemonHere(
      aCompany({
        issuer: issuer.url,
        notes: { tenants: ['acme'], service_downstreams: { ledger: { scopes: ['ledger:read'] } } },
      }),
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

  it('fault 79, threat 18: a proxy of the environment does not see a credential for a service on this machine', async () => {
    other.seen.length = 0
    const environment = { http_proxy: other.url, HTTP_PROXY: other.url, all_proxy: other.url }
    expect(await run('answer(deputy.fetch("ledger", user)(service + "/entries").status)', environment)).toBe(200)
    expect(other.seen).toEqual([])
  })

  it('fault 81, promise 1: what cannot be meant is an error, and nothing is asked', async () => {
    expect(
      await run(`
def wrong(work):
    try: work()
    except (TypeError, ValueError) as error: return type(error).__name__
token = deputy.token("ledger", user)
answer([wrong(lambda: deputy.token("ledger", user, scopes=[])), wrong(lambda: deputy.token("ledger", user, scopes="ledger:read")),
  wrong(lambda: deputy.token("ledger", None)), wrong(lambda: deputy.token("ledger", "")), wrong(lambda: deputy.token("ledger", token)),
  wrong(lambda: connect_deputy(tcp="deputy.example:7880")), wrong(lambda: deputy.fetch("ledger", user)(service, "POST", data=iter([b"x"])))])`),
    ).toEqual(['ValueError', 'TypeError', 'TypeError', 'TypeError', 'TypeError', 'ValueError', 'TypeError'])
  })

  it('faults 82 and 86: sends no login as a bearer token, and asks a slow Deputy once', async () => {
    service.seen.length = 0
    expect(
      await run(`
double = connect_deputy(tcp=service[7:], timeout=0.3)
answer([failure(lambda: double.fetch("login", user)(service + "/entries")), failure(lambda: double.token("slow", user))])`),
    ).toMatchObject([
      { reason: 'not_bearer', next: expect.stringMatching(/deputy\.token/) },
      { reason: 'timeout', next: expect.stringMatching(/slow/) },
    ])
    expect(service.seen.map(({ path }) => path)).toEqual(['/oauth2/token', '/oauth2/token'])
  })

  it('faults 83 and 88: an error says all of itself and is pickled; a body outlasts a 307, and no cookie is lost', async () => {
    service.seen.length = 0
    expect(
      await run(`
try: deputy.token("nothing", user)
except DeputyError as error: caught = error
again = pickle.loads(pickle.dumps(caught))
fetch = deputy.fetch("ledger", user)
cookies = [value for name, value in fetch(service + "/cookies").raw_headers if name.lower() == "set-cookie"]
answer([str(caught), str(again) == str(caught), again.next == caught.next, cookies, fetch(service + "/kept", "POST", b"body").status])`),
    ).toEqual([
      expect.stringMatching(
        /^No downstream service .+ \[target_unknown; deputy explain [\w-]+\] Name one of the downstreams/,
      ),
      true,
      true,
      ['a=1', 'b=2'],
      200,
    ])
    expect(service.seen.at(-1)).toMatchObject({ path: '/there', body: 'body' })
  })

  it('fault 84: on an event loop many calls wait at the same time, and the loop goes on', async () => {
    expect(
      await run(`
import asyncio
async def work():
    waiting = asyncio.gather(*[connect_deputy(tcp=service[7:], timeout=0.5).token_async("slow", user) for _ in range(8)],
      deputy.fetch_async("ledger", user)(service + "/entries"), return_exceptions=True)
    turns = 0
    while not waiting.done():
        await asyncio.sleep(0.01); turns += 1
    *slow, answered = await waiting
    return [sorted({error.reason for error in slow}), answered.status, turns > 10]
began = time.monotonic()
answer([*asyncio.run(work()), time.monotonic() - began < 3])`),
    ).toEqual([['timeout'], 200, true, true])
  })
})
