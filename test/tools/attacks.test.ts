/** The line of a call against an API, a caller and a reload that are hostile: real sockets, without a daemon. */
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import type { Api, HostedTool, Snapshot } from '../../src/config/index.ts'
import type { ToolCallDependencies } from '../../src/flows/tool-call/context.ts'
import { refuse } from '../../src/errors.ts'
import { createToolCalls } from '../../src/flows/tool-call/index.ts'
import { createAttempts } from '../../src/flows/tool-call/attempts.ts'
import { recordable } from '../../src/flows/tool-call/recordable.ts'
import { createAnswerRooms } from '../../src/flows/tool-call/answer-room.ts'
import { type CollectedAnswer, createUpstream, RedactionCache } from '../../src/flows/injected-request/index.ts'
import { Secret } from '../../src/foundation/crypto/index.ts'
import { ACCESS_TOKEN_TYPE } from '../../src/oauth/index.ts'
import { compileApi, readAccepted, type ToolAnswer } from '../../src/openapi/index.ts'
import { anApi } from '../support/openapi-documents.ts'
import { billingDocument, startTestApi, type TestApi } from '../support/hosted.ts'

type Way = Record<string, unknown>
const HEADER: Way = { header: 'Authorization', value: 'Bearer {credential}' }

let api: TestApi
const upstream = createUpstream({
  allowLoopback: true,
  allowPrivate: [],
  connectTimeout: 5000,
  answerTimeout: 5000,
  idleTimeout: 5000,
})
beforeAll(async () => {
  api = await startTestApi()
})
afterEach(() => {
  api.answerBy(undefined)
  api.seen.length = 0
})
afterAll(async () => {
  await upstream.close()
  await api.close()
})

/** A line of calls with credentials `key-of-the-user+1/`, `…2/` and so on, each another one. */
const lineOf = (options: { as?: Way; tools?: object[]; answerLimits?: object; onExchange?: () => void } = {}) => {
  const { as = HEADER, tools = [{ tag: 'invoices' }], onExchange, ...more } = options
  const hosted = (entries: object[]): Map<string, HostedTool> => {
    const withDefaults = entries.map((each) => ('operation' in each ? { parameters: {}, effects: {}, ...each } : each))
    const compiled = compileApi(
      anApi({ tools: withDefaults as never }),
      readAccepted(JSON.stringify(billingDocument(api.url)), 'the document'),
    )
    expect(compiled.problems).toEqual([])
    const file = { api: 'billing', downstream: 'billing', record: [], document: {} } as unknown as Api
    return new Map(compiled.tools.map((tool) => [tool.name, { api: file, tool }]))
  }
  let current = { hosted: new Map([['billing-tools', hosted(tools)]]) } as unknown as Snapshot
  let exchanges = 0
  const calls = createToolCalls({
    snapshot: () => current,
    exchange: {
      exchange: (_origin: unknown, { injection }: { injection: { origin: string } }) => {
        exchanges += 1
        onExchange?.()
        return Promise.resolve({
          token: new Secret(`key-of-the-user+${exchanges}/`),
          injection: {
            downstream: 'billing',
            inject: { as: [as] },
            origin: injection.origin,
            stands: () => true,
            assertStands: () => undefined,
          },
        })
      },
    },
    upstream,
    proofs: {},
    redactions: new RedactionCache(),
    audit: { append: () => Promise.resolve() },
    telemetry: { span: (_name: string, _facts: object, work: () => unknown) => work() },
    logger: { info: () => undefined, error: () => undefined },
    clock: systemClock,
    chance: () => 0,
    ...more,
  } as unknown as ToolCallDependencies)
  return {
    exchanges: () => exchanges,
    reload: (entries: object[]) => {
      current = { hosted: new Map([['billing-tools', hosted(entries)]]) } as unknown as Snapshot
    },
    call: (tool: string, args: Record<string, unknown> = {}, tenant = 'acme'): Promise<ToolAnswer> =>
      calls.call({
        origin: { correlationId: 'test', evidence: {} },
        server: 'billing-tools',
        tool,
        arguments: args,
        onBehalfOf: { subjectToken: new Secret('the-token-of-the-user'), subjectTokenType: ACCESS_TOKEN_TYPE },
        who: { tenant, user: 'alice' },
        signal: new AbortController().signal,
      }),
  }
}

const KEY = 'key-of-the-user+1/'
const unicode = (text: string): string =>
  Array.from(text)
    .map((each) => `\\u${each.charCodeAt(0).toString(16).padStart(4, '0')}`)
    .join('')

describe('promise 5: an API that repeats the credential', () => {
  it.each([
    ['in escapes of JSON', 'application/json', Buffer.from(`{"id":"${unicode(KEY)}","note":"a\\"b\\\\u002b"}`)],
    ['in the escapes that .NET writes', 'application/json', Buffer.from(`{"id":"${KEY.replace('+', '\\u002B')}"}`)],
    ['as the name of a member', 'application/json', Buffer.from(`{"id":"i","${unicode(KEY)}":1}`)],
    ['in UTF-16', 'application/json; charset=utf-16le', Buffer.from(`{"id":"${KEY}"}`, 'utf16le')],
    ['in UTF-16 and escapes', 'text/plain; charset=UTF-16LE', Buffer.from(unicode(KEY), 'utf16le')],
    ['with shifts of ISO 2022', 'text/plain; charset=iso-2022-jp', Buffer.from(Array.from(KEY).join('\x1b(B'))],
  ])('%s has it struck out', async (_, type, body) => {
    api.answerBy((_request, response) => response.writeHead(200, { 'content-type': type }).end(body))
    const answer = await lineOf().call('getInvoice', { id: 'i1' })
    const all = JSON.stringify(answer)
    expect(all).not.toContain(KEY)
    expect(all).not.toContain(JSON.stringify(unicode(KEY)).slice(1, -1))
    expect(all).toContain('*'.repeat(KEY.length))
    const [text] = answer.content
    if (type.startsWith('application/json')) expect(() => JSON.parse((text as { text: string }).text)).not.toThrow()
  })

  it('that it has refused has it struck out too', async () => {
    api.answerBy(({ headers }, response) => {
      const isFirst = String(headers.authorization).includes('+1/')
      response
        .writeHead(isFirst ? 401 : 200, { 'content-type': 'application/json', 'x-first': KEY })
        .end(JSON.stringify({ id: KEY }))
    })
    expect(JSON.stringify(await lineOf().call('getInvoice', { id: 'i1' }))).not.toContain(KEY)
  })

  it('keeps its text in other charsets, and escapes that hide nothing', async () => {
    api.answerBy((_request, response) =>
      response
        .writeHead(200, { 'content-type': 'application/json; charset=utf-16le' })
        .end(Buffer.from('{"id":"\\u00e9 \\u002b é"}', 'utf16le')),
    )
    const { content, structured } = await lineOf().call('getInvoice', { id: 'i1' })
    expect(content).toEqual([{ type: 'text', text: '{"id":"\\u00e9 \\u002b é"}' }])
    expect(structured).toEqual({ id: 'é + é' })
  })
})

describe('promise 5: a caller who writes the placeholder of the credential', () => {
  const whole = { operation: 'createInvoice', parameters: { body: { description: 'all' } } }
  it.each([
    [{ body: 'PLACEHOLDER' }, 'createInvoice', { body: { amount: 1, pin: 'a PLACEHOLDER b' } }],
    [{ path: 'PLACEHOLDER' }, 'getInvoice', { id: 'PLACEHOLDER' }],
  ])('%j gets it into no place of the choosing', async (as, tool, args) => {
    const line = lineOf({ as, tools: [whole, { operation: 'getInvoice' }] })
    await expect(line.call(tool, args)).rejects.toMatchObject({ code: 'malformed_request' })
    expect(api.seen).toEqual([])
  })

  it('is refused nothing where the file writes it', async () => {
    const tools = [{ operation: 'createInvoice', parameters: { pin: { value: 'PLACEHOLDER' } } }]
    await lineOf({ as: { body: 'PLACEHOLDER' }, tools }).call('createInvoice', { amount: 1 })
    expect(api.seen[0]!.body).toBe(`{"amount":1,"pin":"${KEY}"}`)
  })
})

describe('an API that is hostile', () => {
  it('fault 20: makes Deputy obtain one other credential a call, not one for each page and attempt', async () => {
    let count = 0
    api.answerBy((_request, response) => {
      count += 1
      if (count % 2 === 1) response.writeHead(401).end()
      else
        response
          .writeHead(200, { 'content-type': 'application/json' })
          .end(JSON.stringify({ items: [1], next: `c${count}` }))
    })
    const pagination = { by: 'cursor', next: '/next', parameter: 'status', pages: 10, items: '/items' }
    const line = lineOf({ tools: [{ operation: 'listInvoices', pagination }] })
    expect(await line.call('listInvoices')).toMatchObject({ isError: true })
    expect(line.exchanges()).toBe(2)
    expect(api.seen).toHaveLength(3)
  })

  it('promise 9: with cursors that come back ends with the pages that it has', async () => {
    let count = 0
    api.answerBy((_request, response) => {
      count += 1
      response
        .writeHead(200, { 'content-type': 'application/json' })
        .end(JSON.stringify({ items: [count], next: count % 2 === 1 ? 'open' : 'paid' }))
    })
    const pagination = { by: 'cursor', next: '/next', parameter: 'status', pages: 50, items: '/items' }
    const line = lineOf({ tools: [{ operation: 'listInvoices', pagination }] })
    expect(await line.call('listInvoices')).toMatchObject({ isError: false })
    expect(api.seen.map(({ url }) => new URL(url, 'http://localhost').search)).toEqual([
      '',
      '?status=open',
      '?status=paid',
    ])
  })

  it('promise 9: with a cursor that no URL can have, and with JSON that is nested without end, ends with an answer', async () => {
    const pagination = { by: 'cursor', next: '/next', parameter: 'status', pages: 10, items: '/items' }
    const line = lineOf({ tools: [{ operation: 'listInvoices', pagination }, { operation: 'getInvoice' }] })
    api.answerBy((_request, response) =>
      response.writeHead(200, { 'content-type': 'application/json' }).end('{"items":[1],"next":"\\ud800"}'),
    )
    expect(await line.call('listInvoices')).toMatchObject({ isError: false })
    api.answerBy((_request, response) =>
      response
        .writeHead(200, { 'content-type': 'application/json' })
        .end(`{"id":${'['.repeat(50_000)}${']'.repeat(50_000)}}`),
    )
    const answer = await line.call('getInvoice', { id: 'i1' })
    expect(() => JSON.stringify(answer)).not.toThrow()
    expect(answer).toMatchObject({ isError: false, structured: {} })
  })

  it('promise 8: with large answers fills the room of its tenant and no other, and gives it back', () => {
    const rooms = createAnswerRooms({ all: 100, tenant: 60 })
    const open = [rooms.open('acme'), rooms.open('acme'), rooms.open('globex')] as const
    open[0].hold(40)
    expect(() => {
      open[1].hold(21)
    }).toThrowError(expect.objectContaining({ code: 'answers_pending' }))
    open[2].hold(60)
    expect(() => {
      open[1].hold(1)
    }).toThrowError(/all tenants/)
    open[0][Symbol.dispose]()
    open[1].hold(40)
  })

  it('promise 8: one call more than there is memory for ends with a sentence, and the next one has room', async () => {
    const line = lineOf({ tools: [{ operation: 'getInvoice' }], answerLimits: { all: 200_000, tenant: 65_000 } })
    const chunk = Buffer.alloc(1000, 'x')
    const open: (() => void)[] = []
    api.answerBy((_request, response) => {
      response.writeHead(200, { 'content-type': 'text/plain' })
      for (let at = 0; at < 15; at += 1) response.write(chunk)
      open.push(() => response.end())
    })
    const calls = Array.from({ length: 5 }, () =>
      line.call('getInvoice', { id: 'i1' }).catch((error: unknown) => error),
    )
    const first = await Promise.race(calls)
    expect(first).toMatchObject({ code: 'answers_pending' })
    for (const end of open) end()
    await Promise.all(calls)
    await sleep(0)
    api.answerBy(undefined)
    expect(await line.call('getInvoice', { id: 'i1' })).toMatchObject({ isError: false })
  })
})

describe('promise 1: a reload while a call is under way', () => {
  it('that gives the name of the tool to another operation ends the call before it is sent', async () => {
    const line = lineOf({
      tools: [{ operation: 'deleteInvoice', name: 'invoice' }],
      onExchange: () => {
        line.reload([{ operation: 'getInvoice', name: 'invoice' }])
      },
    })
    await expect(line.call('invoice', { id: 'i1' })).rejects.toMatchObject({ code: 'tool_unknown' })
    expect(api.seen).toEqual([])
  })

  it('that takes the tool away ends the call between two pages', async () => {
    const pagination = { by: 'page', parameter: 'status', pages: 10, items: '' }
    const line = lineOf({ tools: [{ operation: 'listInvoices', pagination }] })
    api.answerBy((_request, response) => {
      line.reload([])
      response.writeHead(200, { 'content-type': 'application/json' }).end('[1]')
    })
    await expect(line.call('listInvoices')).rejects.toMatchObject({ code: 'tool_unknown' })
    expect(api.seen).toHaveLength(1)
  })
})

describe('promise 1: a reload between two pages', () => {
  const pagination = { by: 'page', parameter: 'status', pages: 3, items: '' }
  const tools = [{ operation: 'listInvoices', pagination }]
  it('has the exchange decide again, and its refusal ends the call', async () => {
    const line = lineOf({
      tools,
      onExchange: () => {
        if (line.exchanges() === 2) throw refuse('policy_denied')
      },
    })
    api.answerBy((_request, response) => {
      line.reload(tools)
      response.writeHead(200, { 'content-type': 'application/json' }).end('[1]')
    })
    await expect(line.call('listInvoices')).rejects.toMatchObject({ code: 'policy_denied' })
    expect(api.seen).toHaveLength(1)
  })

  it('strikes out the credential of the first page too', async () => {
    const line = lineOf({ tools })
    let count = 0
    api.answerBy((_request, response) => {
      count += 1
      if (count === 1) line.reload(tools)
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify([`${count}: ${KEY}`]))
    })
    expect(JSON.stringify(await line.call('listInvoices'))).not.toContain(KEY)
    expect(line.exchanges()).toBe(2)
  })
})

describe('an API that fails', () => {
  it('promise 8: by silence gets the same pause as by its answers', async () => {
    const attempts = createAttempts({ now: () => 0, chance: () => 0 })
    const options = { key: 'acme', host: 'h', idempotent: false, signal: new AbortController().signal }
    const silent = (): Promise<CollectedAnswer> => Promise.reject(refuse('api_timeout', { tool: 't', seconds: 1 }))
    for (let at = 0; at < 5; at += 1)
      await expect(attempts.run(silent, options)).rejects.toMatchObject({ code: 'api_timeout' })
    await expect(attempts.run(silent, options)).rejects.toMatchObject({ code: 'api_resting' })
  })

  it('promise 4: a call that waits for another one to try the API ends when it is ended', async () => {
    vi.useFakeTimers({ toFake: ['Date'] })
    try {
      const attempts = createAttempts({ now: () => 0, chance: () => 0 })
      const options = (signal: AbortSignal) => ({ key: 'acme', host: 'h', idempotent: false, signal })
      const failing = (): Promise<CollectedAnswer> =>
        Promise.resolve({ status: 502, headers: [], body: Buffer.alloc(0), isCut: false })
      for (let at = 0; at < 5; at += 1) await attempts.run(failing, options(new AbortController().signal))
      vi.setSystemTime(Date.now() + 11_000)
      const [trying, waiting] = [new AbortController(), new AbortController()]
      const endless = (): Promise<CollectedAnswer> => new Promise(() => undefined)
      const first = attempts.run(endless, options(trying.signal)).catch((error: unknown) => error)
      const second = attempts.run(failing, options(waiting.signal))
      waiting.abort(new Error('the client has gone'))
      await expect(second).rejects.toThrow('the client has gone')
      trying.abort(new Error('the time is over'))
      expect(await first).toMatchObject({ message: 'the time is over' })
    } finally {
      vi.useRealTimers()
    }
  })
})

describe('promise 3: arguments that records keep', () => {
  it('have no password, also not one of a choice, of a list or of members without names', () => {
    const password = { type: 'string', format: 'password' }
    const login = { type: 'object', properties: { user: { type: 'string' }, pin: password } }
    const schema = {
      type: 'object',
      properties: {
        one: { anyOf: [{ type: 'string' }, login] },
        some: { type: 'array', items: { anyOf: [login, { type: 'null' }] } },
        more: { type: 'object', additionalProperties: password },
        maybe: { anyOf: [password, { type: 'null' }] },
      },
    }
    const value = {
      one: { user: 'alice', pin: 'secret' },
      some: [{ pin: 'secret' }],
      more: { a: 'secret' },
      maybe: 'secret',
      other: 'kept',
    }
    const kept = JSON.stringify(recordable(schema, value))
    expect(kept).not.toContain('secret')
    expect(kept).toContain('alice')
    expect(kept).toContain('kept')
  })
})
