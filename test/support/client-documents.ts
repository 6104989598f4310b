/** A host with documents of MCP clients (Client ID Metadata Documents), behind a certificate of its own authority. */
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { OutgoingHttpHeaders } from 'node:http'
import { aCertificateAuthority } from './certificates.ts'

export interface ServedDocument {
  readonly status?: number
  readonly headers?: OutgoingHttpHeaders
  readonly body?: string | object
}

export interface ClientDocuments {
  /** `127.0.0.1:PORT`. */
  readonly host: string
  /** PEM of the authority that its certificate is of. */
  readonly ca: string
  /** How often each path was asked for. */
  readonly asked: Map<string, number>
  /** Serves a client's document at a path. @returns the client's id */
  serve(path: string, metadata: object | ((id: string) => object)): string
  answer(path: string, document: ServedDocument): string
  close(): Promise<void>
}

export const startClientDocuments = async (): Promise<ClientDocuments> => {
  const authority = await aCertificateAuthority()
  const { certificate, key } = await authority.issue('documents', { host: '127.0.0.1' })
  const documents = new Map<string, ServedDocument>()
  const asked = new Map<string, number>()
  const server = createServer({ cert: certificate, key }, (request, response) => {
    const path = request.url ?? ''
    asked.set(path, (asked.get(path) ?? 0) + 1)
    const { status = 200, headers = {}, body = '' } = documents.get(path) ?? { status: 404 }
    response.writeHead(status, { 'content-type': 'application/json', ...headers })
    response.end(typeof body === 'string' ? body : JSON.stringify(body))
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  const host = `127.0.0.1:${(server.address() as AddressInfo).port}`
  const answer = (path: string, document: ServedDocument): string => {
    documents.set(path, document)
    return `https://${host}${path}`
  }
  return {
    host,
    ca: authority.certificate,
    asked,
    answer,
    serve: (path, metadata) => {
      const id = `https://${host}${path}`
      return answer(path, {
        body: { client_id: id, ...(typeof metadata === 'function' ? metadata(id) : metadata) },
      })
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => {
          resolve()
        })
        server.closeAllConnections()
      }),
  }
}
