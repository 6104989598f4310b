import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { TLSSocket, type SecureContext } from 'node:tls'

/** A connection that came through CONNECT: where its requests go, and the request that opened it. */
export interface Tunnel {
  readonly origin: string
  readonly connect: IncomingMessage
}

/**
 * Answers a CONNECT and speaks TLS on the connection, as the requested host. The protocol inside is HTTP/1.1.
 * @param patience ms until TLS must stand
 */
export const openTunnel = (socket: Duplex, head: Buffer, secureContext: SecureContext, patience: number): TLSSocket => {
  // What goes through is timed inside.
  if ('setTimeout' in socket) (socket as Socket).setTimeout(0)
  socket.write('HTTP/1.1 200 Connection Established\r\n\r\n')
  if (head.length > 0) socket.unshift(head)
  const inside = new TLSSocket(socket as Socket, { isServer: true, secureContext, ALPNProtocols: ['http/1.1'] })
  inside.on('error', () => {
    socket.destroy()
  })
  const timer = setTimeout(() => {
    socket.destroy()
  }, patience)
  inside.once('secure', () => {
    clearTimeout(timer)
  })
  socket.once('close', () => {
    clearTimeout(timer)
    inside.destroy()
  })
  inside.once('close', () => {
    socket.destroy()
  })
  return inside
}
