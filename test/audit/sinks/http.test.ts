import { createHash } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { gzipSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import type { DeliveryError, Delivery } from '../../../src/foundation/audit/sinks/delivery.ts'
import { createDocuments } from '../../../src/foundation/audit/sinks/document.ts'
import { createHttpDelivery } from '../../../src/foundation/audit/sinks/http.ts'
import { createOtlpDelivery } from '../../../src/foundation/audit/sinks/otlp.ts'
import { createSplunkDelivery } from '../../../src/foundation/audit/sinks/splunk.ts'
import { AUDIT_EVENTS } from '../../../src/foundation/audit/events.ts'
import { Secret } from '../../../src/foundation/crypto/secret.ts'
import { createHec } from '../../doubles/splunk-hec.ts'
import { aChain, anHttpServer, aReceiver, aTcpServer, ecs, forever, ORIGIN } from '../../support/audit-sinks.ts'

const bomb = gzipSync(Buffer.alloc(50_000_000))
const of = { name: 'http siem', limits: { records: 100, bytes: 1_000_000 } }
const rows = aChain(5, (seq) => ({
  user: 'alice',
  outcome: seq === 2 ? 'refused' : 'issued',
  detail: { error: 'revoked', scopes: ['a'] },
}))

const plain = (url: string): Delivery => createHttpDelivery(of, aReceiver(url), 'json', ecs)
const otlp = (url: string): Delivery =>
  createOtlpDelivery(of, aReceiver(url), { origin: ORIGIN, version: '1.0.0', document: ecs })
const splunk = (url: string, token = 'secret-token', index: string | undefined = 'audit'): Delivery =>
  createSplunkDelivery(
    of,
    aReceiver(`${url}/services/collector/event`, {
      authorization: { header: 'authorization', read: () => Promise.resolve(new Secret(`Splunk ${token}`)) },
    }),
    { index, sourcetype: 'deputy:audit', node: 'n1', document: ecs },
  )

describe('the fields of a record', () => {
  it('are those of the Elastic Common Schema, and its canonical text is among them', () => {
    const row = rows[1]!
    const document = JSON.parse(JSON.stringify(ecs(row))) as Record<string, unknown>
    expect(document).toEqual({
      '@timestamp': new Date(row.at).toISOString(),
      ecs: { version: '8.17.0' },
      message: 'token.exchange refused',
      event: {
        id: row.hash,
        kind: 'event',
        category: ['authentication'],
        type: ['info'],
        action: 'token.exchange',
        outcome: 'failure',
        provider: 'deputy',
        module: 'deputy',
        dataset: 'deputy.audit',
        sequence: 2,
        hash: row.hash,
        original: row.body,
      },
      service: { name: 'deputy', type: 'deputy', environment: 'test', node: { name: 'n1' } },
      organization: { id: 'acme' },
      user: { id: 'alice', name: 'alice' },
      related: { user: ['alice'] },
      error: { code: 'revoked' },
      deputy: { correlation_id: 'r2', outcome: 'refused', detail: { error: 'revoked', scopes: ['a'] } },
    })
    const { original, hash } = document['event'] as { original: string; hash: string }
    expect(createHash('sha256').update(original).digest('hex')).toBe(hash)
    expect(createDocuments('deputy', ORIGIN)(row)).toEqual({ node: 'n1', seq: 2, hash: row.hash, record: row.body })
  })

  it('name a category for every event', () => {
    for (const event of AUDIT_EVENTS) expect(ecs({ ...rows[0]!, event }), event).toHaveProperty('event.category')
  })
})

describe('batches over HTTP', () => {
  it('are an array or one document a line, with the token of the file', async () => {
    const got: { body: string; type: string | undefined; token: string | undefined }[] = []
    const url = await anHttpServer((body, response, { headers }) => {
      got.push({ body, type: headers['content-type'], token: headers['authorization'] })
      response.writeHead(202).end()
    })
    let token = 'one'
    const receiver = aReceiver(url, {
      authorization: { header: 'authorization', read: () => Promise.resolve(new Secret(`Bearer ${token}`)) },
    })
    await createHttpDelivery(of, receiver, 'json', ecs).send(rows, forever)
    token = 'two'
    await createHttpDelivery(of, receiver, 'ndjson', ecs).send(rows, forever)
    const documents = JSON.parse(JSON.stringify(rows.map(ecs))) as unknown[]
    expect(got[0]).toMatchObject({ type: 'application/json', token: 'Bearer one' })
    expect(JSON.parse(got[0]!.body)).toEqual(documents)
    expect(got[1]).toMatchObject({ type: 'application/x-ndjson', token: 'Bearer two' })
    expect(
      got[1]!.body
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line) as unknown),
    ).toEqual(documents)
    const bad = aReceiver(url, {
      authorization: { header: 'authorization', read: () => Promise.resolve(new Secret('a\r\nsecret: b')) },
    })
    const refused = await createHttpDelivery(of, bad, 'json', ecs)
      .send(rows, forever)
      .catch((error: unknown) => error)
    expect(String(refused)).toMatch(/characters that no header/)
    expect(String(refused)).not.toMatch(/secret: b/)
  })

  const send =
    (status: number, headers: Record<string, string> = {}, body = '') =>
    (_: string, response: ServerResponse) => {
      response.writeHead(status, headers).end(body)
    }
  it.each<{
    name: string
    answer: (body: string, response: ServerResponse, request: IncomingMessage) => void
    problem: RegExp
    expected?: Partial<DeliveryError>
  }>([
    {
      name: 'an error',
      answer: send(500, {}, 'trouble\nhere'),
      problem: /^it answered with status 500$/,
      expected: { refusesContent: false, answered: 'trouble here' },
    },
    { name: 'a rejected token', answer: send(401), problem: /status 401/, expected: { refusesContent: false } },
    { name: 'records that it refuses', answer: send(400), problem: /status 400/, expected: { refusesContent: true } },
    { name: 'a batch that is too large', answer: send(413), problem: /status 413/, expected: { refusesContent: true } },
    {
      name: 'a wait',
      answer: send(429, { 'retry-after': '7' }),
      problem: /status 429/,
      expected: { retryAfter: 7000 },
    },
    {
      name: 'a redirect',
      answer: send(307, { location: 'http://127.0.0.1:1/' }),
      problem: /redirect \(307\), which is not followed/,
    },
    { name: 'no answer', answer: () => undefined, problem: /no complete answer/ },
    {
      name: 'half an answer',
      answer: (_, response) => response.writeHead(200, { 'content-length': '100' }).write('half'),
      problem: /no complete answer/,
    },
    { name: 'a reset', answer: (_, response) => response.socket?.resetAndDestroy(), problem: /closed the connection/ },
    {
      name: 'a huge answer',
      answer(_, response) {
        response.writeHead(200)
        const talk = (): void => {
          while (!response.destroyed && response.write('x'.repeat(65_536))) continue
        }
        response.on('drain', talk)
        talk()
      },
      problem: /longer than 65536 bytes/,
    },
    {
      name: 'a small answer that unpacks to a huge one',
      answer: (_, response) => response.writeHead(200, { 'content-encoding': 'gzip' }).end(bomb),
      problem: /longer than 65536 bytes/,
    },
  ])('threat 29: confirm nothing where the receiver has $name', async ({ answer, problem, expected = {} }) => {
    for (const create of [plain, otlp, splunk]) {
      const delivery = create(await anHttpServer(answer))
      const error = await delivery.send(rows, AbortSignal.timeout(500)).catch((thrown: unknown) => thrown)
      expect((error as Error).message).toMatch(problem)
      // What the body of an HTTP Event Collector does not say is not about the events, but for its size.
      if (create !== splunk || !problem.test('status 400')) expect(error).toMatchObject(expected)
    }
  })

  it('threat 4: keep the words of a receiver from callers, and the token from everybody, where it is repeated', async () => {
    for (const token of ['short', 'a-long-token-0123456789']) {
      const url = await anHttpServer((_, response, { headers }) => {
        response.writeHead(403).end(`no: ${headers.authorization}, ${token}`)
      })
      const receiver = aReceiver(url, {
        authorization: { header: 'authorization', read: () => Promise.resolve(new Secret(`Bearer ${token}`)) },
      })
      const error = (await createHttpDelivery(of, receiver, 'json', ecs)
        .send(rows, forever)
        .catch((thrown: unknown) => thrown)) as DeliveryError
      expect(error.message).toBe('it answered with status 403')
      expect(error.answered).toMatch(/^no: /)
      expect(error.answered).not.toContain(token)
    }
  })

  it('threat 29: confirm nothing where no HTTP is spoken, or no program listens', async () => {
    const { port } = await aTcpServer((socket: Socket) => socket.end('SSH-2.0-OpenSSH_9.2\r\n'))
    const closed = await aTcpServer(() => undefined)
    closed.close()
    await expect(plain(`http://127.0.0.1:${port}/`).send(rows, forever)).rejects.toThrow(
      /no HTTP|closed the connection/,
    )
    await expect(plain(`http://127.0.0.1:${closed.port}/`).send(rows, forever)).rejects.toThrow(/ECONNREFUSED/)
  })
})

describe('the HTTP Event Collector of Splunk', () => {
  it('gets events with time, host and index, and confirms with code 0', async () => {
    const hec = createHec({ token: 'secret-token', index: 'audit' })
    const url = await anHttpServer(hec.answer)
    await splunk(url).send(rows, forever)
    expect(hec.events).toHaveLength(5)
    expect(hec.events[1]).toEqual({
      time: rows[1]!.at / 1000,
      host: 'n1',
      source: 'deputy',
      sourcetype: 'deputy:audit',
      index: 'audit',
      event: JSON.parse(JSON.stringify(ecs(rows[1]!))) as object,
    })
  })

  it('threat 29: confirms with nothing but code 0, and a wrong token or index does not count against the records', async () => {
    let isBusy = true
    const hec = createHec({ token: 'secret-token', index: 'audit', isBusy: () => isBusy })
    const url = await anHttpServer(hec.answer)
    await expect(splunk(url).send(rows, forever)).rejects.toMatchObject({
      message: /503 and code 9/,
      refusesContent: false,
    })
    isBusy = false
    await expect(splunk(url, 'other').send(rows, forever)).rejects.toMatchObject({
      message: /403 and code 4$/,
      refusesContent: false,
    })
    await expect(splunk(url, 'secret-token', 'other').send(rows, forever)).rejects.toMatchObject({
      message: /400 and code 7/,
      refusesContent: false,
    })
    for (const [body, problem] of [
      ['{"text":"Success","code":0}', undefined],
      ['{"text":"Invalid data format","code":6}', /200 and code 6/],
      ['<html>Welcome</html>', /not as an HTTP Event Collector/],
      ['', /not as an HTTP Event Collector/],
    ] as const) {
      const sent = splunk(await anHttpServer((_, response) => response.end(body))).send(rows, forever)
      if (problem === undefined) await sent
      else await expect(sent).rejects.toThrow(problem)
    }
  })
})

describe('logs over OTLP', () => {
  it('have the canonical text as body, the fields as attributes, and numbers as the JSON of OTLP has them', async () => {
    const got: unknown[] = []
    const url = await anHttpServer((body, response, { headers }) => {
      expect(headers['content-type']).toBe('application/json')
      got.push(JSON.parse(body))
      response.end('{}')
    })
    await otlp(url).send(rows.slice(1, 2), forever)
    const row = rows[1]!
    expect(got[0]).toMatchObject({
      resourceLogs: [
        {
          resource: { attributes: [{ key: 'service.name', value: { stringValue: 'deputy' } }, {}, {}, {}] },
          scopeLogs: [
            {
              scope: { name: 'deputy.audit' },
              logRecords: [
                {
                  timeUnixNano: `${row.at}000000`,
                  severityNumber: 13,
                  eventName: 'deputy.token.exchange',
                  body: { stringValue: row.body },
                },
              ],
            },
          ],
        },
      ],
    })
    const { attributes } = (
      got[0] as { resourceLogs: { scopeLogs: { logRecords: { attributes: { key: string; value: unknown }[] }[] }[] }[] }
    ).resourceLogs[0]!.scopeLogs[0]!.logRecords[0]!
    const found = Object.fromEntries(attributes.map(({ key, value }) => [key, value]))
    expect(found).toMatchObject({
      'event.hash': { stringValue: row.hash },
      'event.sequence': { intValue: '2' },
      'event.category': { arrayValue: { values: [{ stringValue: 'authentication' }] } },
      'user.id': { stringValue: 'alice' },
      'deputy.detail': {
        kvlistValue: { values: [{ key: 'error', value: { stringValue: 'revoked' } }, { key: 'scopes' }] },
      },
    })
    expect(Object.keys(found)).not.toContain('event.original')
  })

  it('count what the receiver rejects of a batch that it takes, and do not send it again', async () => {
    for (const [answer, rejected] of [
      ['{"partialSuccess":{"rejectedLogRecords":"2","errorMessage":"too old"}}', 2],
      ['{"partialSuccess":{"rejectedLogRecords":999}}', 5],
      ['{"partialSuccess":{"errorMessage":"a warning"}}', 0],
      ['{"partialSuccess":null}', 0],
    ] as const) {
      const url = await anHttpServer((_, response) => response.end(answer))
      expect(await otlp(url).send(rows, forever)).toMatchObject({ rejected })
    }
    for (const answer of ['', 'ok', '[]', '{"partialSuccess":{"rejectedLogRecords":-1}}']) {
      const url = await anHttpServer((_, response) => response.end(answer))
      await expect(otlp(url).send(rows, forever)).rejects.toThrow(/not as a receiver of OTLP/)
    }
  })
})
