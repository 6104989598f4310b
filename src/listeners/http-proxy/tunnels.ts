import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import type { Snapshot } from '#config'
import { refuse } from '#errors'
import { refuseConnection } from './answer.ts'
import { readEvidence } from './caller.ts'
import { asRefusal, type ProxyContext } from './dependencies.ts'
import { tunnelOf } from './route.ts'
import { openTunnel } from './tunnel.ts'

const hasHost = ({ downstreams }: Snapshot, ids: readonly string[], origin: string): boolean =>
  ids.some((id) => downstreams.get(id)?.inject?.hosts.includes(origin) === true)

/**
 * A server may open a tunnel to a host that one of its downstreams has. Each request inside it is authorized separately.
 * @returns the origin. @throws DeputyError `malformed_request`, `injection_host_unknown`, of the category workload
 */
const authorizeTunnel = async (
  request: IncomingMessage,
  correlationId: string,
  { tunnels, snapshot, attest, audit, peer }: ProxyContext,
): Promise<string> => {
  const origin = tunnelOf(request)
  if (tunnels.has(request.socket)) throw refuse('malformed_request', { problem: 'there is a tunnel already' })
  const current = snapshot()
  const { server } = await attest(readEvidence(request, await peer(request)), current)
  if (hasHost(current, [...Object.keys(server.downstreams), ...Object.keys(server.service_downstreams)], origin))
    return origin
  const error = refuse('injection_host_unknown', { host: origin, server: server.server })
  await audit.append({
    id: correlationId,
    event: 'proxy.connect',
    outcome: 'refused',
    server: server.server,
    detail: { host: origin, error: { code: error.code, message: error.message, next: error.next } },
  })
  throw error
}

/** Answers a CONNECT request. @param adopt hands on the connection inside the tunnel */
export const answerConnect = (
  request: IncomingMessage,
  { socket, head }: { readonly socket: Duplex; readonly head: Buffer },
  adopt: (inside: Duplex) => void,
  context: ProxyContext,
): void => {
  const correlationId = context.correlationId()
  socket.on('error', () => {
    socket.destroy()
  })
  const open = async (): Promise<void> => {
    const origin = await authorizeTunnel(request, correlationId, context)
    const secureContext = await context.authority.contextFor(new URL(origin).hostname.replace(/^\[|\]$/g, ''))
    if (socket.destroyed) return
    const inside = openTunnel(socket, head, secureContext, context.patience)
    context.tunnels.set(inside, { origin, connect: request })
    adopt(inside)
  }
  open().catch((thrown: unknown) => {
    refuseConnection(socket, asRefusal(thrown, correlationId, context), correlationId, {
      isForward: true,
      patience: context.patience,
    })
  })
}
