/**
 * A peer that is unwell, in each of the ways in which real ones are: `startUnwellHttp` answers HTTP, `startUnwellTcp` any protocol.
 * Its port stays the same while its mood changes, so that a client may find it well again.
 */
import { once } from 'node:events'
import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net'

export const HTTP_MOODS = [
  'refused',
  'silent',
  'slow',
  'cut',
  '500',
  '502 html',
  '503',
  '429',
  '429 wait',
  'redirect',
  'garbage',
  'too long',
] as const
export const TCP_MOODS = ['refused', 'silent', 'slow', 'cut', 'garbage', 'too long'] as const
export type Mood = (typeof HTTP_MOODS)[number] | 'well'

type Handler = (request: IncomingMessage, body: string, response: ServerResponse) => void

export interface Unwell {
  readonly url: string
  readonly port: number
  /** In which it answers from now on. @param only of HTTP: where the path has this in it; default everywhere */
  set(mood: Mood, only?: string): Promise<void>
  close(): Promise<void>
}

const TOO_LONG = 1_200_000

/** @param server has its handlers */
const unwell = async (server: Server, of: { mood: Mood; only: string | undefined }): Promise<Unwell> => {
  const sockets = new Set<Socket>()
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.on('error', () => undefined).on('close', () => sockets.delete(socket))
  })
  const listen = async (port: number): Promise<void> => {
    server.listen(port, '127.0.0.1')
    await once(server, 'listening')
  }
  const stop = async (): Promise<void> => {
    for (const socket of sockets) socket.destroy()
    if (!server.listening) return
    server.close()
    await once(server, 'close')
  }
  await listen(0)
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}`,
    port,
    async set(mood, only) {
      Object.assign(of, { mood, only })
      if (mood === 'refused') await stop()
      else {
        // A connection that is held in one mood does not say what another is like.
        for (const socket of sockets) socket.destroy()
        if (!server.listening) await listen(port)
      }
    },
    close: stop,
  }
}

const answerIn = (mood: Mood, response: ServerResponse): void => {
  const json = { 'content-type': 'application/json' }
  switch (mood) {
    case 'slow':
      // A byte now and then: the connection is alive, and the answer does not come.
      response.writeHead(200, json)
      {
        const drip = setInterval(() => response.write(' '), 20)
        response.on('close', () => {
          clearInterval(drip)
        })
      }
      return
    case 'cut':
      response.writeHead(200, { ...json, 'content-length': '5000' }).write('{"data":')
      setTimeout(() => response.destroy(), 5)
      return
    case '500':
      response.writeHead(500, json).end('{"errors":["internal error"]}')
      return
    case '502 html':
      response.writeHead(502, { 'content-type': 'text/html' }).end('<html><h1>Bad Gateway</h1></html>')
      return
    case '503':
      response.writeHead(503, json).end('{"errors":["unavailable"]}')
      return
    case '429':
      response.writeHead(429, json).end('{"errors":["too many requests"]}')
      return
    case '429 wait':
      response.writeHead(429, { ...json, 'retry-after': '1' }).end('{"errors":["too many requests"]}')
      return
    case 'redirect':
      response.writeHead(307, { location: 'https://elsewhere.example/' }).end()
      return
    case 'garbage':
      response.writeHead(200, json).end('\u0000\u0001 this is no JSON')
      return
    case 'too long':
      response.writeHead(200, json).end(`{"data":"${'x'.repeat(TOO_LONG)}"}`)
      return
    default:
    // Silent: it has taken the request.
  }
}

/** @param well how it answers while it is well */
export const startUnwellHttp = (well: Handler): Promise<Unwell> => {
  const of: { mood: Mood; only: string | undefined } = { mood: 'well', only: undefined }
  const server = createHttpServer((request, response) => {
    let body = ''
    request.on('data', (chunk) => (body += String(chunk)))
    request.on('end', () => {
      const isWell = of.mood === 'well' || (of.only !== undefined && request.url?.includes(of.only) !== true)
      if (isWell) well(request, body, response)
      else answerIn(of.mood, response)
    })
  })
  return unwell(server, of)
}

/** @param well passes a connection on to the real peer, or speaks for it; absent: it is never well */
export const startUnwellTcp = (well?: (socket: Socket) => void): Promise<Unwell> => {
  const of: { mood: Mood; only: string | undefined } = { mood: 'well', only: undefined }
  const server = createServer((socket) => {
    if (of.mood === 'well') {
      if (well === undefined) socket.destroy()
      else well(socket)
      return
    }
    socket.resume()
    if (of.mood === 'cut') socket.end('R')
    else if (of.mood === 'garbage') socket.write('\u0000\u0001garbage\r\n\r\n')
    else if (of.mood === 'too long') socket.write(Buffer.alloc(TOO_LONG, 0x52))
    else if (of.mood === 'slow') {
      const drip = setInterval(() => socket.write('\u0000'), 20)
      socket.on('close', () => {
        clearInterval(drip)
      })
    }
  })
  return unwell(server, of)
}
