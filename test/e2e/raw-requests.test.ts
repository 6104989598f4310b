/** Requests as bytes on a connection: what clients send that no HTTP library lets a test write. */
import { readdir, readlink } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { aCompany } from '../support/configuration.ts'
import { startDaemonProcess, type Daemon } from '../support/daemon.ts'
import { freePort } from '../support/process.ts'

let daemon: Daemon
let [tcp, metrics, proxy] = [0, 0, 0]

beforeAll(async () => {
  ;[tcp, metrics, proxy] = [await freePort(), await freePort(), await freePort()]
  daemon = await startDaemonProcess(aCompany({ issuer: 'http://127.0.0.1:9' }), {
    listen: { tcp: `127.0.0.1:${tcp}`, metrics: `127.0.0.1:${metrics}`, proxy: `127.0.0.1:${proxy}` },
    limits: { header_timeout: '1s', request_timeout: '2s' },
  })
})
afterAll(async () => {
  await daemon?.close()
})

interface Place {
  readonly name: string
  readonly to: { path: string } | { port: number; host: string }
  readonly host: string
  /** A path that answers 200. */
  readonly path: string
}

const loopback = (port: number) => ({ port, host: '127.0.0.1' })
const places = (): Place[] => [
  { name: 'local API (socket)', to: { path: daemon.socketPath }, host: 'localhost', path: '/healthz' },
  { name: 'local API (TCP)', to: loopback(tcp), host: `127.0.0.1:${tcp}`, path: '/healthz' },
  { name: 'admin', to: { path: join(daemon.home, 'run/admin.sock') }, host: 'localhost', path: '/tenants' },
  { name: 'pages', to: loopback(daemon.port), host: `127.0.0.1:${daemon.port}`, path: '/.well-known/jwks.json' },
  { name: 'metrics', to: loopback(metrics), host: `127.0.0.1:${metrics}`, path: '/metrics' },
  { name: 'proxy (socket)', to: { path: join(daemon.home, 'run/proxy.sock') }, host: 'localhost', path: '/ca.pem' },
  { name: 'proxy (TCP)', to: loopback(proxy), host: `127.0.0.1:${proxy}`, path: '/ca.pem' },
]

/** Sends the bytes, and reads until the other side ends. The own side stays open unless it is said. */
const exchange = (
  { to }: Pick<Place, 'to'>,
  bytes: string | Buffer,
  { halfClose = false }: { halfClose?: boolean } = {},
): Promise<string> =>
  new Promise((resolve, reject) => {
    const socket: Socket = connect({ ...to, allowHalfOpen: true })
    let text = ''
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1')
    })
    socket.once('error', reject).once('end', () => {
      socket.destroy()
      resolve(text)
    })
    if (halfClose) socket.end(bytes)
    else socket.write(bytes)
  })

const statusOf = (text: string): number => Number(/^HTTP\/1\.1 (\d{3}) /.exec(text)?.[1] ?? 0)
const lines = (...all: string[]): string => `${all.join('\r\n')}\r\n\r\n`

describe('fault 37: requests as bytes', () => {
  it('fault 37: a client that shuts its sending side gets its answer, at every listener', async () => {
    for (const place of places()) {
      const text = await exchange(place, lines(`GET ${place.path} HTTP/1.1`, `Host: ${place.host}`), {
        halfClose: true,
      })
      expect([place.name, statusOf(text)]).toEqual([place.name, 200])
    }
    const form = 'grant_type=client_credentials&audience=ledger'
    const text = await exchange(
      places()[0]!,
      `${lines('POST /oauth2/token HTTP/1.1', 'Host: localhost', 'Content-Type: application/x-www-form-urlencoded', `Content-Length: ${form.length}`)}${form}`,
      { halfClose: true },
    )
    expect(text).toContain('"correlation_id"')
  })

  it('fault 37, threat 1: an absolute target is served as its path when its authority is allowed', async () => {
    const [socket, port, admin, pages, scraped] = places() as [Place, Place, Place, Place, Place]
    for (const place of [socket, port, admin, pages, scraped]) {
      const get = (authority: string, host = place.host): Promise<string> =>
        exchange(place, lines(`GET http://${authority}${place.path} HTTP/1.1`, `Host: ${host}`, 'Connection: close'))
      expect([place.name, statusOf(await get(place.host))]).toEqual([place.name, 200])
      if (place === admin) continue
      expect([place.name, statusOf(await get('evil.example'))]).toEqual([place.name, 403])
    }
    const foreign = await exchange(
      port,
      lines(`GET http://${port.host}/healthz HTTP/1.1`, 'Host: evil.example', 'Connection: close'),
    )
    expect(statusOf(foreign)).toBe(403)
    const named = await exchange(
      port,
      lines(`GET http://user@${port.host}/healthz HTTP/1.1`, `Host: ${port.host}`, 'Connection: close'),
    )
    expect(statusOf(named)).toBe(404)
  })

  it('fault 37: an encoded body is refused with 415 and a sentence', async () => {
    const body = gzipSync('grant_type=client_credentials')
    for (const [place, path, type] of [
      [places()[0]!, '/oauth2/token', 'application/x-www-form-urlencoded'],
      [places()[2]!, '/revoke', 'application/json'],
      [places()[3]!, '/oauth2/token', 'application/x-www-form-urlencoded'],
      [places()[3]!, '/connect/consent', 'application/x-www-form-urlencoded'],
    ] as const) {
      const head = lines(
        `POST ${path} HTTP/1.1`,
        `Host: ${place.host}`,
        `Content-Type: ${type}`,
        'Content-Encoding: gzip',
        `Content-Length: ${body.length}`,
        'Connection: close',
      )
      const text = await exchange(place, Buffer.concat([Buffer.from(head), body]))
      expect([place.name, path, statusOf(text)]).toEqual([place.name, path, 415])
      expect(text).toContain('The content encoding gzip is not accepted here.')
      expect(text).toMatch(/accept-encoding: identity/i)
    }
  })

  it('fault 37: a second header of which one would be ignored is refused', async () => {
    const form = 'grant_type=client_credentials&audience=ledger'
    const basic = (secret: string): string => `Authorization: Basic ${Buffer.from(`a:${secret}`).toString('base64')}`
    for (const place of places()) {
      for (const pair of [
        [basic('x'), basic('y')],
        ['Content-Type: application/x-www-form-urlencoded', 'Content-Type: text/plain'],
      ]) {
        const isProxy = place.name.startsWith('proxy')
        const path = isProxy ? '/d/ledger/' : place.name === 'metrics' ? place.path : '/oauth2/token'
        const text = await exchange(
          place,
          `${lines(`POST ${path} HTTP/1.1`, `Host: ${place.host}`, ...pair, `Content-Length: ${form.length}`, 'Connection: close')}${form}`,
        )
        expect([place.name, pair[0], statusOf(text)]).toEqual([place.name, pair[0], 400])
        expect(text).toContain('was sent twice')
      }
    }
    const twoHosts = await exchange(
      places()[1]!,
      lines('GET /healthz HTTP/1.1', `Host: ${places()[1]!.host}`, 'Host: evil.example', 'Connection: close'),
    )
    expect([400, 403]).toContain(statusOf(twoHosts))
    const twoLengths = await exchange(
      places()[1]!,
      `${lines('POST /oauth2/token HTTP/1.1', `Host: ${places()[1]!.host}`, 'Content-Length: 3', 'Content-Length: 4')}a=b`,
    )
    expect(statusOf(twoLengths)).toBe(400)
  })

  it('fault 37: a silent connection is closed after its 408, and keeps no descriptor', async () => {
    const held = async (): Promise<number> => {
      const folder = `/proc/${daemon.process.pid}/fd`
      const links = await Promise.all((await readdir(folder)).map((fd) => readlink(join(folder, fd)).catch(() => '')))
      return links.filter((link) => link.startsWith('socket:')).length
    }
    const before = await held()
    const silent = places().map(({ to }) => connect({ ...to, allowHalfOpen: true }))
    const answers = await Promise.all(
      silent.map(
        (socket) =>
          new Promise<string>((resolve) => {
            let text = ''
            socket
              .on('error', () => undefined)
              .on('data', (chunk: Buffer) => {
                text += chunk.toString('latin1')
              })
            // The own side stays open: the descriptor of a client that never ends has to go all the same.
            socket.once('end', () => {
              resolve(text)
            })
          }),
      ),
    )
    expect(answers.map(statusOf)).toEqual(places().map(() => 408))
    await vi.waitFor(async () => {
      expect(await held()).toBeLessThanOrEqual(before)
    }, 10_000)
    for (const socket of silent) socket.destroy()
  })
})
