import { request } from 'node:http'
import { createServer } from 'node:https'
import type { Issued } from './certificates.ts'

/** A reverse proxy that brings TLS to what listens on a port, as one stands before the connect pages. */
export const startTlsFront = async (options: {
  readonly certificate: Issued
  readonly port: number
  readonly to: () => number
}): Promise<{ close(): Promise<void> }> => {
  const server = createServer(
    { cert: options.certificate.certificate, key: options.certificate.key },
    (incoming, outgoing) => {
      const inner = request(
        {
          host: '127.0.0.1',
          port: options.to(),
          path: incoming.url,
          method: incoming.method,
          headers: incoming.headers,
        },
        (response) => {
          outgoing.writeHead(response.statusCode!, response.rawHeaders)
          response.pipe(outgoing)
        },
      )
      inner.on('error', () => {
        outgoing.destroy()
      })
      incoming.pipe(inner)
    },
  )
  await new Promise<void>((resolve) => {
    server.listen(options.port, '127.0.0.1', resolve)
  })
  return {
    close: () =>
      new Promise((resolve) => {
        server.close(() => {
          resolve()
        })
        server.closeAllConnections()
      }),
  }
}
