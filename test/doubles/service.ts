/**
 * A service that a credential is for, over HTTP/1.1 or, with an authority, over TLS with HTTP/2 and HTTP/1.1. It writes
 * down what it gets, and answers it back unless it is told to answer otherwise.
 */
import { createServer, ServerResponse, type IncomingHttpHeaders, type IncomingMessage } from 'node:http'
import { createSecureServer, type Http2ServerRequest, type Http2ServerResponse } from 'node:http2'
import type { AddressInfo, Socket } from 'node:net'
import { WebSocketServer } from 'ws'
import type { Authority } from '../../src/listeners/http-proxy/authority.ts'

export interface Received {
  readonly method: string
  readonly url: string
  readonly headers: IncomingHttpHeaders
  readonly rawHeaders: readonly string[]
  readonly version: string
  readonly body: string
}

type Request = IncomingMessage | Http2ServerRequest
type Response = ServerResponse | Http2ServerResponse

export interface Service {
  /** Its origin. */
  readonly url: string
  readonly port: number
  readonly received: Received[]
  /** Takes the request as it comes, its body not read. */
  answer: ((request: IncomingMessage, response: ServerResponse) => void) | undefined
  /** Headers of upgrade requests. */
  readonly upgrades: IncomingHttpHeaders[]
  close(): Promise<void>
}

/** @param authority signs its certificate for `localhost` @param h2 whether it speaks HTTP/2 alone */
export const startService = async ({
  authority,
  h2 = false,
}: { authority?: Authority; h2?: boolean } = {}): Promise<Service> => {
  const onRequest = (request: Request, response: Response): void => {
    if (service.answer !== undefined) {
      service.answer(request as IncomingMessage, response as ServerResponse)
      return
    }
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => {
      chunks.push(chunk)
    })
    request.on('end', () => {
      const received = {
        method: request.method!,
        url: request.url!,
        headers: request.headers,
        rawHeaders: request.rawHeaders,
        version: request.httpVersion,
        body: Buffer.concat(chunks).toString('utf8'),
      }
      service.received.push(received)
      const answered = response as ServerResponse
      answered.writeHead(200, { 'content-type': 'application/json' })
      answered.end(JSON.stringify(received))
    })
    request.on('error', () => undefined)
  }
  const server =
    authority === undefined
      ? createServer(onRequest)
      : createSecureServer(
          {
            allowHTTP1: !h2,
            SNICallback: (name, done) => {
              authority.contextFor(name).then((context) => {
                done(null, context)
              }, done)
            },
          },
          onRequest,
        )
  const sockets = new Set<Socket>()
  server.on(authority === undefined ? 'connection' : 'secureConnection', (socket: Socket) => {
    sockets.add(socket)
    socket
      .on('error', () => undefined)
      .once('close', () => {
        sockets.delete(socket)
      })
  })
  const websockets = new WebSocketServer({ noServer: true })
  server.on('upgrade', (request: IncomingMessage, socket: Socket, head: Buffer) => {
    service.upgrades.push(request.headers)
    if (request.url?.includes('ignore') === true) {
      const response = new ServerResponse(request)
      response.assignSocket(socket)
      response.once('finish', () => {
        socket.end()
      })
      service.answer!(request, response)
      return
    }
    if (request.url?.includes('refuse') === true) {
      socket.end('HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno')
      return
    }
    websockets.handleUpgrade(request, socket, head, (connection) => {
      if (request.url?.includes('bye') === true) {
        connection.send(Buffer.alloc(4_000_000))
        connection.close()
        return
      }
      connection.on('message', (data, isBinary) => {
        connection.send(data, { binary: isBinary })
      })
    })
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  const { port } = server.address() as AddressInfo
  const service: Service = {
    url: authority === undefined ? `http://127.0.0.1:${port}` : `https://localhost:${port}`,
    port,
    received: [],
    upgrades: [],
    answer: undefined,
    close: () =>
      new Promise((resolve) => {
        server.close(() => {
          resolve()
        })
        for (const socket of sockets) socket.destroy()
      }),
  }
  return service
}
