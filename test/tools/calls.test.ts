import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { createServer, type ServerResponse } from 'node:http'
import { type AddressInfo, connect as connectTo } from 'node:net'
import { join } from 'node:path'
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { ask } from '../support/daemon.ts'
import { API_KEY, apiFiles, billingDocument, startHostedWorld, type HostedWorld } from '../support/hosted.ts'
import { runCli } from '../support/process.ts'

let world: HostedWorld
let client: Client
beforeAll(async () => {
  world = await startHostedWorld({
    settings: { limits: { header_timeout: '1s', request_timeout: '2s' } },
    api: {
      record: ['arguments'],
      max_bytes: 4096,
      tools: [
        { operation: 'listInvoices', pagination: { by: 'link', pages: 3 } },
        { operation: 'getInvoice', timeout: '2s' },
        { tag: 'invoices' },
      ],
    },
  })
  client = await connect(await world.tokenOf('alice', ['accounting']))
}, 60_000)
afterAll(async () => {
  await client?.close()
  await world?.close()
})
beforeEach(() => {
  world.api.seen.length = 0
})
afterEach(() => {
  world.api.answerBy(undefined)
})

const connect = async (token: string): Promise<Client> => {
  const made = new Client({ name: 'test', version: '1.0.0' }, { versionNegotiation: { mode: { pin: '2026-07-28' } } })
  await made.connect(
    new StreamableHTTPClientTransport(new URL(world.url), {
      requestInit: { headers: { authorization: `Bearer ${token}` } },
    }),
  )
  return made
}

interface Result {
  readonly text: string
  readonly isError: boolean
  readonly structured: unknown
}
const call = async (
  name: string,
  args: Record<string, unknown>,
  options: { signal?: AbortSignal; by?: Client } = {},
): Promise<Result> => {
  const { content, isError, structuredContent } = (await (options.by ?? client).callTool(
    { name, arguments: args },
    options.signal === undefined ? {} : { signal: options.signal },
  )) as { content: { text?: string }[]; isError?: boolean; structuredContent?: unknown }
  return { text: content.map(({ text }) => text).join('\n'), isError: isError === true, structured: structuredContent }
}

const json = (response: ServerResponse, status: number, body: unknown, headers: Record<string, string> = {}): void => {
  response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body))
}
const invoice = { id: 'i1', amount: 1, status: 'open' }

const records = async (event: string): Promise<Record<string, unknown>[]> => {
  const { out } = await world.daemon.deputy('audit', 'query', '--event', event, '--json')
  return JSON.parse(out) as Record<string, unknown>[]
}

describe('what is recorded', () => {
  it('promise 3: a call has a durable record before it is sent, and one of its outcome, with a digest and without secrets', async () => {
    const result = await call('createInvoice', { amount: 5, pin: '1234-secret' })
    expect(result).toMatchObject({ isError: false, structured: { id: 'i3' } })
    await expect.poll(async () => (await records('tool.call')).length).toBeGreaterThan(0)
    const outcome = (await records('tool.call')).at(-1)!
    const [before] = (await records('token.exchange')).filter(({ id }) => id === outcome['id'])
    expect(outcome).toMatchObject({
      outcome: 'done',
      user: 'alice',
      tenant: 'acme',
      server: 'billing-tools',
      downstream: 'billing',
    })
    expect((outcome['record'] as { detail: unknown }).detail).toMatchObject({
      tool: 'createInvoice',
      status: 201,
      requests: 1,
      call: { api: 'billing', operation: 'createInvoice', digest: expect.stringMatching(/^[0-9a-f]{64}$/) },
    })
    expect((before!['record'] as { detail: unknown }).detail).toMatchObject({
      asked: { tool: 'createInvoice', call: { operation: 'createInvoice' } },
    })
    const text = JSON.stringify([outcome, before])
    expect(text).toContain('"amount":5')
    expect(text).not.toContain('1234-secret')
    expect(text).not.toContain(API_KEY)
    const explained = await world.daemon.deputy('explain', String(outcome['id']))
    expect(explained.out).toContain('createInvoice')
  })

  it('promise 1: a refused call reaches no API and is recorded', async () => {
    const bob = await connect(await world.tokenOf('bob'))
    await expect(call('deleteInvoice', { id: 'i1' }, { by: bob })).rejects.toThrow(/not found/)
    expect(world.api.seen).toEqual([])
    await bob.close()
  })
})

describe('what the API is sent', () => {
  it.each([
    ['..', 'a step back'],
    ['../admin', 'a step back and a path'],
    ['..%2fadmin', 'an escaped slash'],
    ['%2e%2e', 'escaped dots'],
    ['a/../../admin', 'steps back inside'],
    ['..;', 'a step back with a parameter'],
  ])('promise 1: a path parameter stays one segment of its path: %s (%s)', async (id) => {
    const { isError } = await call('getInvoice', { id })
    for (const { url } of world.api.seen) {
      expect(new URL(url, 'http://localhost').pathname.split('/')).toHaveLength(4)
      expect(new URL(url, 'http://localhost').pathname).toMatch(/^\/v1\/invoices\/[^/]+$/)
    }
    if (world.api.seen.length === 0) expect(isError).toBe(true)
  })

  it('no header of the caller reaches the API, and its host is the one of the file', async () => {
    const made = new Client({ name: 'test', version: '1.0.0' }, { versionNegotiation: { mode: { pin: '2026-07-28' } } })
    const token = await world.tokenOf('alice', ['accounting'])
    await made.connect(
      new StreamableHTTPClientTransport(new URL(world.url), {
        requestInit: {
          headers: {
            authorization: `Bearer ${token}`,
            'x-forwarded-host': 'evil.example',
            forwarded: 'host=evil.example',
            'x-custom': 'mine',
            cookie: 'session=1',
          },
        },
      }),
    )
    await call('getInvoice', { id: 'i1' }, { by: made })
    await made.close()
    const { headers } = world.api.seen[0]!
    expect(headers['host']).toBe(new URL(world.api.url).host)
    expect(headers).not.toHaveProperty('x-forwarded-host')
    expect(headers).not.toHaveProperty('forwarded')
    expect(headers).not.toHaveProperty('x-custom')
    expect(headers).not.toHaveProperty('cookie')
    expect(JSON.stringify(headers)).not.toContain(token)
  })

  it("threat 18: the user's own token is refused as an argument", async () => {
    const token = await world.tokenOf('alice', ['accounting'])
    const own = await connect(token)
    expect(await call('getInvoice', { id: token }, { by: own })).toMatchObject({ isError: true })
    expect(world.api.seen).toEqual([])
    expect(JSON.stringify(await records('tool.call'))).not.toContain(token)
    expect(JSON.stringify(await records('token.exchange'))).not.toContain(token)
    await own.close()
  })

  it('arguments that are not as the schema says are told, and nothing is sent', async () => {
    const result = await call('listInvoices', { status: 'lost', more: 1 })
    expect(result.isError).toBe(true)
    expect(result.text).toMatch(/status/)
    expect(result.text).toMatch(/more/)
    expect(world.api.seen).toEqual([])
  })
})

describe('what comes back', () => {
  it('promise 5: a credential that the API repeats is struck out, in bodies and in errors', async () => {
    world.api.answerBy(({ headers }, response) => {
      json(response, 200, { ...invoice, id: headers['authorization'] })
    })
    const good = await call('getInvoice', { id: 'i1' })
    world.api.answerBy(({ headers }, response) => {
      json(response, 422, { error: `wrong key ${headers['authorization']}` })
    })
    const bad = await call('getInvoice', { id: 'i1' })
    expect(JSON.stringify([good, bad])).not.toContain(API_KEY)
    expect(bad).toMatchObject({ isError: true })
    expect(bad.text).toMatch(/422/)
    expect(bad.text).toMatch(/wrong key/)
  })

  it('threat 27: a redirect to another origin is not followed', async () => {
    const other = createServer((_request, response) => response.end('{}')).listen(0, '127.0.0.1')
    await once(other, 'listening')
    let asked = 0
    other.on('request', () => {
      asked += 1
    })
    const { port } = other.address() as AddressInfo
    world.api.answerBy((_request, response) => {
      response.writeHead(302, { location: `http://127.0.0.1:${port}/steal` }).end()
    })
    const result = await call('getInvoice', { id: 'i1' })
    expect(result).toMatchObject({ isError: true })
    // The id for `deputy explain`.
    expect(result.text).toMatch(/\n\([\w-]{20,}\)$/)
    expect(asked).toBe(0)
    other.close()
  })

  it('an answer longer than the limit is cut where it is text, and refused where it is JSON', async () => {
    world.api.answerBy((_request, response) => {
      response.writeHead(200, { 'content-type': 'text/plain' }).end('x'.repeat(100_000))
    })
    const text = await call('getInvoice', { id: 'i1' })
    expect(text.isError).toBe(false)
    expect(text.text.length).toBeLessThan(6000)
    world.api.answerBy((_request, response) => {
      json(response, 200, { ...invoice, id: 'x'.repeat(100_000) })
    })
    expect(await call('getInvoice', { id: 'i1' })).toMatchObject({ isError: true })
  })

  it('an answer that is not as documented is an answer all the same', async () => {
    world.api.answerBy((_request, response) => {
      json(response, 200, { id: 7, surprise: true })
    })
    const result = await call('getInvoice', { id: 'i1' })
    expect(result.isError).toBe(false)
    expect(result.text).toContain('surprise')
  })

  it('pages are joined, as far as the file says, and never from another place', async () => {
    world.api.answerBy(({ url }, response) => {
      const page = Number(new URL(url, 'http://localhost').searchParams.get('page') ?? 1)
      json(response, 200, [{ ...invoice, id: `p${page}` }], {
        link: `</v1/invoices?page=${page + 1}>; rel="next"`,
      })
    })
    const { structured } = await call('listInvoices', {})
    expect(structured).toMatchObject({ result: [{ id: 'p1' }, { id: 'p2' }, { id: 'p3' }] })
    world.api.seen.length = 0
    world.api.answerBy((_request, response) => {
      json(response, 200, [invoice], { link: '<https://evil.example/v1/invoices?page=2>; rel="next"' })
    })
    await call('listInvoices', {})
    expect(world.api.seen).toHaveLength(1)
  })
})

describe('an API in trouble', () => {
  it('a call that may be repeated is sent again, and one that may not is not', async () => {
    let failures = 2
    world.api.answerBy((_request, response) => {
      if (failures-- > 0) json(response, 503, { error: 'busy' }, { 'retry-after': '0' })
      else json(response, 200, invoice)
    })
    expect(await call('getInvoice', { id: 'i1' })).toMatchObject({ isError: false })
    expect(world.api.seen).toHaveLength(3)
    world.api.seen.length = 0
    failures = 1
    const created = await call('createInvoice', { amount: 1 })
    expect(created).toMatchObject({ isError: true })
    expect(created.text).toMatch(/503/)
    expect(world.api.seen).toHaveLength(1)
  })

  it('an API that asks for a long pause is not waited for, and the caller learns how long', async () => {
    world.api.answerBy((_request, response) => {
      json(response, 429, { error: 'slow down' }, { 'retry-after': '120' })
    })
    const { text, isError } = await call('getInvoice', { id: 'i1' })
    expect(isError).toBe(true)
    expect(text).toMatch(/429/)
    expect(text).toMatch(/120/)
    expect(world.api.seen).toHaveLength(1)
  })

  it('fault 20: a credential that the API refuses is replaced by one that is valid now, and the call goes on', async () => {
    world.api.answerBy(({ headers }, response) => {
      if (headers['authorization'] === 'Bearer key-after-the-rotation-0815') json(response, 200, invoice)
      else json(response, 401, { error: 'bad credentials' })
    })
    expect(await call('getInvoice', { id: 'i1' })).toMatchObject({ isError: true })
    await runCli(
      world.daemon.home,
      ['secret', 'set', '--tenant', 'acme', '--name', 'billing'],
      'key-after-the-rotation-0815',
    )
    expect(await call('getInvoice', { id: 'i1' })).toMatchObject({ isError: false })
    await runCli(world.daemon.home, ['secret', 'set', '--tenant', 'acme', '--name', 'billing'], API_KEY)
  })

  it('a call ends when its time is over', async () => {
    world.api.answerBy(() => {})
    const { text, isError } = await call('getInvoice', { id: 'i1' })
    expect(isError).toBe(true)
    expect(text).toMatch(/longer than 2 seconds/)
  })

  it('a call that the client cancels ends at the API', async () => {
    const ended = new Promise<void>((resolve) => {
      world.api.answerBy((_request, response) => {
        response.once('close', resolve)
      })
    })
    const abort = new AbortController()
    const running = call('createInvoice', { amount: 1 }, { signal: abort.signal })
    await expect.poll(() => world.api.seen.length).toBe(1)
    abort.abort()
    await expect(running).rejects.toThrow()
    await ended
    await expect.poll(async () => JSON.stringify(await records('tool.call'))).toContain('call_cancelled')
  })
})

describe('the gate', () => {
  const post = (headers: Record<string, string>) =>
    ask(
      { port: world.mcpPort },
      {
        path: '/mcp',
        headers: {
          host: `127.0.0.1:${world.mcpPort}`,
          'content-type': 'application/json',
          accept: 'application/json, text/event-stream',
          ...headers,
        },
        body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/list', params: {} }),
      },
    )

  it('requests without a token learn where to sign in; a token for another server does not count', async () => {
    const none = await post({})
    expect(none.status).toBe(401)
    const metadata = /resource_metadata="([^"]+)"/.exec(String(none.headers['www-authenticate']))![1]!
    expect(await (await fetch(metadata)).json()).toMatchObject({
      resource: world.url,
      authorization_servers: [world.issuer.url],
    })
    const other = await world.issuer.sign({ sub: 'alice', aud: 'https://notes.example/mcp', org: 'acme' })
    expect((await post({ authorization: `Bearer ${other}` })).status).toBe(401)
  })

  it('a flood of tokens that do not count does not fill the audit log', async () => {
    const before = (await records('token.introspect')).length
    const answers = await Promise.all(
      Array.from({ length: 200 }, (_, at) => post({ authorization: `Bearer not-a-token-${at}` })),
    )
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([401]))
    const after = (await records('token.introspect')).length
    expect(after).toBeGreaterThan(before)
    expect(after - before).toBeLessThan(100)
  })

  it.each([['without a token'], ['with one']])(
    'promise 9: a client %s that sends its body without end loses its connection',
    async (kind) => {
      const token = kind === 'with one' ? `\r\nAuthorization: Bearer ${await world.tokenOf('alice')}` : ''
      const socket = connectTo(world.mcpPort, '127.0.0.1')
      socket.on('error', () => undefined).resume()
      socket.write(
        `POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:${world.mcpPort}${token}\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{`,
      )
      const timer = setInterval(() => socket.write(' '), 200)
      await once(socket, 'close', { signal: AbortSignal.timeout(8000) })
      clearInterval(timer)
    },
    10_000,
  )

  it('promise 10: a web page reaches nothing, by its origin or by a name that it has bound', async () => {
    const authorization = `Bearer ${await world.tokenOf('alice')}`
    expect((await post({ authorization, origin: 'https://evil.example' })).status).toBe(403)
    expect((await post({ authorization, host: 'evil.example' })).status).toBe(403)
  })

  it('promise 2: no program of this machine can be the server that Deputy hosts', async () => {
    const answer = await world.daemon.token({
      grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
      client_id: 'billing-tools',
      subject_token: await world.tokenOf('alice', ['accounting']),
      subject_token_type: 'urn:ietf:params:oauth:token-type:access_token',
      audience: 'billing',
    })
    expect(answer.status).toBeGreaterThanOrEqual(400)
    expect(answer.text).not.toContain(API_KEY)
  })
})

describe('changes while clients are connected', () => {
  it('promise 4: a revocation ends a call that is under way', async () => {
    world.api.answerBy(undefined)
    const carol = await connect(await world.tokenOf('carol'))
    world.api.answerBy(() => {})
    const running = call('getInvoice', { id: 'i1' }, { by: carol })
    await expect.poll(() => world.api.seen.length).toBe(1)
    const { code } = await world.daemon.deputy('revoke', '--tenant', 'acme', '--user', 'carol', '--reason', 'test')
    expect(code).toBe(0)
    const { text, isError } = await running
    expect(isError).toBe(true)
    expect(text).toMatch(/revocation/i)
    await carol.close().catch(() => {})
  })

  it('a reload that takes a tool away takes it from clients that know it, and tells those that listen', async () => {
    world.api.answerBy(undefined)
    let told = 0
    const listening = new Client(
      { name: 'test', version: '1.0.0' },
      {
        versionNegotiation: { mode: { pin: '2026-07-28' } },
        listChanged: {
          tools: {
            onChanged: () => {
              told += 1
            },
          },
        },
      },
    )
    await listening.connect(
      new StreamableHTTPClientTransport(new URL(world.url), {
        requestInit: { headers: { authorization: `Bearer ${await world.tokenOf('alice', ['accounting'])}` } },
      }),
    )
    expect((await listening.listTools()).tools.map(({ name }) => name)).toContain('deleteInvoice')
    const files = apiFiles('billing', billingDocument(world.api.url), { tools: [{ operation: 'getInvoice' }] })
    await world.daemon.write(files)
    expect((await world.daemon.deputy('reload')).code).toBe(0)
    await expect.poll(() => told).toBeGreaterThan(0)
    expect((await listening.listTools()).tools.map(({ name }) => name)).toEqual(['getInvoice'])
    await expect(call('deleteInvoice', { id: 'i1' }, { by: listening })).rejects.toThrow(/not found/)
    await listening.close()
  })

  it('a document that was changed by hand is refused, and the tools stay as they were', async () => {
    await writeFile(
      join(world.daemon.home, 'apis/billing.openapi.json'),
      JSON.stringify(billingDocument('https://evil.example')),
    )
    const { code, out, err } = await world.daemon.deputy('reload')
    expect(code).not.toBe(0)
    expect(`${out}${err}`).toMatch(/not the document that was accepted/)
    expect(await call('getInvoice', { id: 'i1' })).toMatchObject({ isError: false })
    expect(world.api.seen.at(-1)?.headers['host']).toBe(new URL(world.api.url).host)
  })
})

describe('an API that fails repeatedly', () => {
  it('gets a pause, and its callers learn that', async () => {
    world.api.answerBy((_request, response) => {
      json(response, 502, { error: 'down' })
    })
    for (let at = 0; at < 2; at += 1) await call('getInvoice', { id: 'i1' })
    world.api.seen.length = 0
    const { text } = await call('getInvoice', { id: 'i1' })
    expect(text).toMatch(/failed repeatedly/)
    expect(world.api.seen).toEqual([])
  })
})
