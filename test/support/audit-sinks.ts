/** Rows, sinks that follow, and receivers of audit records that behave as a test says. */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createTcpServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { onTestFinished } from 'vitest'
import { emptyChain, link } from '../../src/foundation/audit/format/chain.ts'
import type { Delivery } from '../../src/foundation/audit/sinks/delivery.ts'
import { createDocuments } from '../../src/foundation/audit/sinks/document.ts'
import { Follower, type FollowerOptions } from '../../src/foundation/audit/sinks/follower.ts'
import { Pacing, type PacingOptions } from '../../src/foundation/audit/sinks/pacing.ts'
import { SinkPosition, type PositionOptions } from '../../src/foundation/audit/sinks/position.ts'
import type { HttpReceiver } from '../../src/foundation/audit/sinks/post.ts'
import { systemClock } from '../../src/clock.ts'
import { createEgress } from '../../src/foundation/outbound/fetch.ts'
import type { AuditRow } from '../../src/foundation/store/records/audit.ts'
import type { Store } from '../../src/foundation/store/store.ts'
import { silentLogger } from '../../src/foundation/telemetry/logger.ts'
import { noTelemetry } from '../../src/foundation/telemetry/telemetry.ts'

export const ORIGIN = { node: 'n1', environment: 'test' }
export const ecs = createDocuments('ecs', ORIGIN)

/** A chain of so many records. @param over of each */
export const aChain = (
  count: number,
  over: (seq: number) => {
    id?: string
    user?: string
    tenant?: string
    outcome?: 'issued' | 'refused'
    detail?: object
  } = () => ({}),
): AuditRow[] => {
  let head = emptyChain({ installation: 'an-installation', node: 'local' })
  return Array.from({ length: count }, (_, index) => {
    const { detail = {}, ...rest } = over(index + 1)
    const row = link(head, {
      record: { id: `r${index + 1}`, event: 'token.exchange', outcome: 'issued', tenant: 'acme', ...rest },
      detail: JSON.stringify(detail),
      at: 1_800_000_000_000 + index,
    })
    head = row
    return row
  })
}

export const quickly: PacingOptions = {
  first: 10,
  longest: 20,
  longestAsked: 60_000,
  monotonic: () => performance.now(),
  random: () => 1,
}

/** A delivery that keeps what it is given, as a test says. */
export const aDelivery = (
  send: Delivery['send'],
  over: Partial<Pick<Delivery, 'name' | 'limits' | 'head'>> = {},
): Delivery => ({
  name: 'http siem',
  limits: { records: 100, bytes: 1_000_000 },
  send,
  close: () => Promise.resolve(),
  ...over,
})

export const aPosition = (store: Store, over: Partial<PositionOptions> = {}): SinkPosition =>
  new SinkPosition({
    sink: 'siem',
    store: store.audit,
    positions: store.auditPositions,
    prove: (text) => `proof of ${text}`,
    backfill: 'start',
    logger: silentLogger,
    ...over,
  })

export const aFollower = (store: Store, delivery: Delivery, over: Partial<FollowerOptions> = {}): Follower => {
  const follower = new Follower({
    delivery,
    store: store.audit,
    position: aPosition(store),
    pacing: new Pacing(quickly),
    deadline: 20_000,
    alertAfter: 60_000,
    clock: systemClock,
    telemetry: noTelemetry,
    logger: silentLogger,
    ...over,
  })
  onTestFinished(() => follower.close())
  return follower
}

/** An HTTP server that answers as a test says. @returns its address */
export const anHttpServer = async (
  answer: (body: string, response: ServerResponse, request: IncomingMessage) => void,
): Promise<string> => {
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      answer(Buffer.concat(chunks).toString('utf8'), response, request)
    })
  })
  return `http://127.0.0.1:${(await listening(server)).port}`
}

/** A TCP server that does with each connection as a test says. @param at a path instead of a port */
export const aTcpServer = async (
  served: (socket: Socket) => void,
  at?: string,
): Promise<{ port: number; close(): void }> => {
  const server = createTcpServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => undefined)
    served(socket)
  })
  const { port } = await listening(server, at)
  return { port, close: () => server.close() }
}

export const listening = async (server: Server, at?: string): Promise<{ port: number }> => {
  const sockets = new Set<Socket>()
  server.on('connection', (socket: Socket) => sockets.add(socket))
  if (at === undefined) server.listen(0, '127.0.0.1')
  else server.listen(at)
  await once(server, 'listening')
  onTestFinished(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  return { port: (server.address() as AddressInfo).port }
}

export const aReceiver = (url: string, over: Partial<HttpReceiver> = {}): HttpReceiver => {
  const egress = createEgress({ allowLoopback: true, allowPrivate: [], timeout: 5000 })
  onTestFinished(() => egress.close())
  return { url, egress, authorization: undefined, headers: {}, timeout: 5000, clock: systemClock, ...over }
}

export const forever = new AbortController().signal
