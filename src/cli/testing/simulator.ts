/**
 * An API that answers from its document: the document's examples, else values that fit the schemas, and the faults that
 * a case orders.
 */
import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { type ApiTool, type ExampleAnswer, sampleOf } from '#openapi'
import type { Fault } from './cases.ts'

export interface Simulator {
  readonly origin: string
  /** Orders a fault for the next requests, and begins to count anew. */
  order(fault: Fault | undefined): void
  /** Requests since the last order. */
  requests(): number
  close(): Promise<void>
}

/** A path template as an expression: a parameter is one segment, or a part of it. */
const patternOf = (path: string): RegExp =>
  new RegExp(
    `^${path
      .split(/\{[^{}]*\}/)
      .map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
      .join('[^/?]*')}$`,
  )

interface Simulated {
  readonly method: string
  readonly pattern: RegExp
  readonly answer: ExampleAnswer
}

const answerOf = ({ operation: { answers } }: ApiTool): ExampleAnswer => {
  const form =
    answers.find(({ status }) => status.startsWith('2')) ?? answers.find(({ status }) => status === 'default')
  const status = form !== undefined && /^\d{3}$/.test(form.status) ? Number(form.status) : 200
  const [mediaType = ''] = form?.mediaTypes ?? []
  if (form?.schema !== undefined) return { status, mediaType: 'application/json', value: sampleOf(form.schema) }
  return { status: form === undefined ? 204 : status, mediaType, value: mediaType === '' ? undefined : 'text' }
}

const send = (
  response: ServerResponse,
  { status, mediaType, value }: ExampleAnswer,
  fault: Fault | undefined,
): void => {
  const body = value === undefined ? '' : /\bjson\b/.test(mediaType) ? JSON.stringify(value) : String(value)
  const headers = {
    ...(body === '' ? {} : { 'content-type': mediaType }),
    ...(fault?.retry_after === undefined ? {} : { 'retry-after': String(fault.retry_after) }),
  }
  if (fault?.half === true) {
    response.writeHead(status, { ...headers, 'content-length': Buffer.byteLength(body) + 10 })
    response.write(body.slice(0, Math.ceil(body.length / 2)), () => response.destroy())
    return
  }
  response.writeHead(status, headers).end(body)
}

/** @param tools whose requests are answered; @param examples by method and path of the document */
export const startSimulator = async (
  tools: readonly ApiTool[],
  examples: (tool: ApiTool) => ExampleAnswer | undefined,
): Promise<Simulator> => {
  const simulated: Simulated[] = tools.map((tool) => ({
    method: tool.operation.method,
    pattern: patternOf(tool.operation.path),
    answer: examples(tool) ?? answerOf(tool),
  }))
  let [fault, left, count]: [Fault | undefined, number, number] = [undefined, 0, 0]
  const answer = async (method: string, url: string, response: ServerResponse): Promise<void> => {
    count += 1
    const ordered = left > 0 ? fault : undefined
    if (left > 0) left -= 1
    if (ordered?.latency !== undefined) await sleep(ordered.latency)
    const path = url.split('?', 1)[0]!
    const found = simulated.find((each) => each.method === method && each.pattern.test(path))
    if (ordered?.status !== undefined)
      send(response, { status: ordered.status, mediaType: 'application/json', value: { error: 'simulated' } }, ordered)
    else if (found === undefined)
      send(response, { status: 404, mediaType: 'application/json', value: { error: 'no such operation' } }, ordered)
    else send(response, found.answer, ordered)
  }
  const server = createServer((request, response) => {
    request.resume()
    request.on('end', () => {
      answer(request.method ?? '', request.url ?? '', response).catch(() => response.destroy())
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    order(ordered) {
      fault = ordered
      left = ordered?.times ?? 0
      count = 0
    },
    requests: () => count,
    async close() {
      server.close()
      server.closeAllConnections()
      await once(server, 'close')
    },
  }
}
