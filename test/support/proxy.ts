/** A daemon with services behind its proxy, and clients that use it as programs do. */
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { connect as netConnect } from 'node:net'
import { connect as tlsConnect, type TLSSocket } from 'node:tls'
import { createSystemRandom } from '../../src/clock.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { hashClientSecret } from '../../src/identity/workload/client-secret.ts'
import { aCompany } from './configuration.ts'
import { startDaemonProcess, type Daemon, type Files, type TestIssuer } from './daemon.ts'
import { freePort, runCli } from './process.ts'

export const CLIENT_SECRET = 'the-secret-of-notes'
/** What an HTTP client makes of `http://notes:…@127.0.0.1`. */
export const BASIC = { 'proxy-authorization': `Basic ${Buffer.from(`notes:${CLIENT_SECRET}`).toString('base64')}` }

export interface Proxied extends Daemon {
  readonly proxyPort: number
  readonly proxySocket: string
}

/** @param downstreams `inject` of static downstreams, each with its tenant's secret of the same name */
export const startProxied = async (
  issuer: TestIssuer,
  downstreams: Readonly<Record<string, { inject: object; secret: string } & Record<string, unknown>>>,
  settings: Record<string, unknown> = {},
  environment: NodeJS.ProcessEnv = {},
): Promise<Proxied> => {
  const proxyPort = await freePort()
  const uses = Object.fromEntries(Object.keys(downstreams).map((id) => [id, { scopes: [] }]))
  const files: Files = {
    ...aCompany({
      issuer: issuer.url,
      notes: {
        attest: [
          { unix: { uid: process.getuid!() } },
          { client_secret: { scrypt: await hashClientSecret(new Secret(CLIENT_SECRET), createSystemRandom()) } },
        ],
        downstreams: { ledger: { scopes: ['ledger:read'] }, ...uses },
        own: uses,
        tenants: ['acme'],
        login_session: true,
      },
    }),
    ...Object.fromEntries(
      Object.entries(downstreams).map(([id, { inject, secret: _, ...more }]) => [
        `downstreams/${id}.yaml`,
        { downstream: id, credential: 'static', secret: id, inject, ...more },
      ]),
    ),
    'policies/access/proxy.cedar':
      '@id("services")\npermit (principal, action in [Deputy::Action::"static", Deputy::Action::"basic"], resource);',
  }
  const daemon = await startDaemonProcess(
    files,
    { ...settings, listen: { proxy: `127.0.0.1:${proxyPort}` } },
    environment,
  )
  for (const [id, { secret }] of Object.entries(downstreams)) {
    const { code, err } = await runCli(daemon.home, ['secret', 'set', '--tenant', 'acme', '--name', id], secret)
    if (code !== 0) throw new Error(err)
  }
  return Object.assign(daemon, { proxyPort, proxySocket: `${daemon.home}/run/proxy.sock` })
}

/** Asks for a tunnel. @param to the port, or the path of the socket @returns the connection, or the answer that refused it */
export const openTunnel = (
  to: number | string,
  authority: string,
  headers: Record<string, string>,
): Promise<{ socket: ReturnType<typeof netConnect> } | { refused: IncomingMessage }> =>
  new Promise((resolve, reject) => {
    const request = httpRequest({
      ...(typeof to === 'number' ? { host: '127.0.0.1', port: to } : { socketPath: to }),
      method: 'CONNECT',
      path: authority,
      headers: { host: authority, ...headers },
      agent: false,
    })
    request.on('connect', (response, socket) => {
      if (response.statusCode === 200) resolve({ socket: socket as ReturnType<typeof netConnect> })
      else {
        socket.destroy()
        resolve({ refused: response })
      }
    })
    request.on('error', reject)
    request.end()
  })

/** TLS through a tunnel, trusting the proxy's authority alone. */
export const tlsThrough = async (
  to: number | string,
  authority: string,
  headers: Record<string, string>,
  ca: string,
): Promise<TLSSocket> => {
  const tunnel = await openTunnel(to, authority, headers)
  if ('refused' in tunnel) throw new Error(`the tunnel was refused with ${tunnel.refused.statusCode}`)
  const inside = tlsConnect({ socket: tunnel.socket, ca, servername: authority.split(':')[0]! })
  await new Promise<void>((resolve, reject) => {
    inside.once('secureConnect', resolve)
    inside.once('error', reject)
  })
  return inside
}
