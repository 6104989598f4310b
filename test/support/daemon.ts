/** A real daemon as a process, with a configuration written for it, and the ways to ask it. */
import type { ChildProcess } from 'node:child_process'
import { generateKeyPairSync, randomUUID, type KeyObject } from 'node:crypto'
import { mkdtemp, mkdir, rm, writeFile } from 'node:fs/promises'
import { request, type Agent } from 'node:http'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { SignJWT, type JWTPayload } from 'jose'
import { stringify } from 'yaml'
import { newKeyText } from '../../src/foundation/crypto/key-encryption-key.ts'
import { createSystemRandom } from '../../src/clock.ts'
import { startHere } from './here.ts'
import { CLI, freePort, runCli, startProcess, stopProcess } from './process.ts'

export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly text: string
  readonly body: Record<string, unknown>
}

const parse = (text: string): Record<string, unknown> => {
  try {
    return JSON.parse(text) as Record<string, unknown>
  } catch {
    return {}
  }
}

/** One HTTP request over a Unix socket or TCP. */
export const ask = (
  to: { socketPath: string } | { port: number },
  options: {
    path: string
    method?: string
    headers?: Record<string, string | string[]>
    body?: string | Buffer
    agent?: Agent
  },
): Promise<Answer> =>
  new Promise((resolve, reject) => {
    const target = 'socketPath' in to ? { socketPath: to.socketPath } : { host: '127.0.0.1', port: to.port }
    const outgoing = request(
      {
        ...target,
        path: options.path,
        method: options.method ?? (options.body === undefined ? 'GET' : 'POST'),
        headers: { ...('socketPath' in to ? { host: 'localhost' } : {}), ...options.headers },
        agent: options.agent ?? false,
      },
      (response) => {
        const chunks: Buffer[] = []
        response.on('data', (chunk: Buffer) => {
          chunks.push(chunk)
        })
        response.on('end', () => {
          const text = Buffer.concat(chunks).toString('utf8')
          resolve({ status: response.statusCode ?? 0, headers: response.headers, text, body: parse(text) })
        })
        response.on('error', reject)
      },
    )
    outgoing.on('error', reject)
    outgoing.end(options.body)
  })

/** A key pair as a server's file and a signer want it. */
export const aKeyPair = (): { privateKey: KeyObject; jwk: object } => {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  return { privateKey, jwk: { ...publicKey.export({ format: 'jwk' }), alg: 'ES256', kid: 'key' } }
}

export const TOKEN_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange'
export const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token'

/** Files of a configuration, by their path below the folder; objects are written as YAML. */
export type Files = Readonly<Record<string, object | string>>

/** A daemon, and the ways to ask it. */
export interface RunningDaemon {
  readonly home: string
  readonly socketPath: string
  readonly port: number
  deputy(...args: string[]): ReturnType<typeof runCli>
  write(files: Files): Promise<void>
  token(form: Readonly<Record<string, string>> | URLSearchParams, headers?: Record<string, string>): Promise<Answer>
  start(): Promise<void>
  stop(): Promise<void>
  /** All that it has written to standard output and standard error, over all of its starts. */
  output(): string
  close(): Promise<void>
}

/** One in the process of the test. */
export interface DaemonHere extends RunningDaemon {
  /** Ends it here and starts it in a process of its own, which can be killed. The next `start` is here again. */
  moveToProcess(): Promise<{ kill(): Promise<void> }>
}

/** One in a process of its own. */
export interface Daemon extends RunningDaemon {
  process: ChildProcess
  stop(signal?: NodeJS.Signals): Promise<void>
}

/** @param daemon closed where it does not start */
const started = async <D extends RunningDaemon>(daemon: D): Promise<D> => {
  try {
    await daemon.start()
  } catch (error) {
    await daemon.close()
    throw error
  }
  return daemon
}

/** Makes the folder and starts `deputy serve`. */
export const startDaemonProcess = async (
  files: Files,
  settings: Record<string, unknown> = {},
  environment: NodeJS.ProcessEnv = {},
): Promise<Daemon> => started(await prepareDaemon(files, settings, environment))

/** As `startDaemonProcess`, in this process. */
export const startDaemonHere = async (
  files: Files,
  settings: Record<string, unknown> = {},
  environment: Readonly<Record<string, string>> = {},
): Promise<DaemonHere> => started(await prepareDaemonHere(files, settings, environment))

/** The folder of a daemon, and what asks for it there. */
type Place = Omit<RunningDaemon, 'start' | 'stop' | 'output'>

const prepareFolder = async (files: Files, settings: Record<string, unknown>): Promise<Place> => {
  const home = await mkdtemp(join(tmpdir(), 'deputy-test-'))
  const port = await freePort()
  const write = async (each: Files): Promise<void> => {
    for (const [path, content] of Object.entries(each)) {
      await mkdir(dirname(join(home, path)), { recursive: true, mode: 0o700 })
      await writeFile(join(home, path), typeof content === 'string' ? content : stringify(content), { mode: 0o600 })
    }
  }
  await write({
    'deputy.yaml': {
      environment: 'test',
      issuer: `http://127.0.0.1:${port}`,
      network: { allow_loopback: true },
      ...settings,
      listen: { connect: `127.0.0.1:${port}`, ...(settings['listen'] as object) },
    },
    'state/kek': newKeyText(createSystemRandom()),
    ...files,
  })
  const socketPath = join(home, 'run/deputy.sock')
  return {
    home,
    socketPath,
    port,
    write,
    deputy: (...args) => runCli(home, args),
    token: (form, headers = {}) =>
      ask(
        { socketPath },
        {
          path: '/oauth2/token',
          headers: { 'content-type': 'application/x-www-form-urlencoded', ...headers },
          body: new URLSearchParams(form as Record<string, string>).toString(),
        },
      ),
    close: () => rm(home, { recursive: true, force: true }),
  }
}

const serve = (
  home: string,
  environment: NodeJS.ProcessEnv,
  written: (text: string) => void,
  cli = CLI,
): Promise<ChildProcess> =>
  startProcess([cli, 'serve', '--home', home], /deputy is ready/, { ...process.env, ...environment }, written)

/**
 * Makes the folder of a daemon.
 * @param files beside `deputy.yaml`, whose settings are merged into ones that fit a test
 * @param cli default: the one under test
 */
export const prepareDaemon = async (
  files: Files,
  settings: Record<string, unknown> = {},
  environment: NodeJS.ProcessEnv = {},
  cli = CLI,
): Promise<Daemon> => {
  const place = await prepareFolder(files, settings)
  let output = ''
  const daemon: Daemon = {
    ...place,
    process: undefined as unknown as ChildProcess,
    async start() {
      const written = (text: string): void => {
        output += text
      }
      daemon.process = await serve(place.home, environment, written, cli)
    },
    output: () => output,
    stop: (signal) => stopProcess(daemon.process, signal),
    async close() {
      if (daemon.process !== undefined) await daemon.stop('SIGKILL')
      await place.close()
    },
  }
  return daemon
}

/**
 * As `prepareDaemon`, for one that runs in this process: the same daemon with the same sockets, without the start of a process,
 * which costs more than most tests. What a test says of the end or the streams of a process is not for it.
 * @param environment of this process for as long as it runs
 */
export const prepareDaemonHere = async (
  files: Files,
  settings: Record<string, unknown> = {},
  environment: Readonly<Record<string, string>> = {},
): Promise<DaemonHere> => {
  const place = await prepareFolder(files, settings)
  let output = ''
  const written = (text: string): void => {
    output += text
  }
  let running: { stop(): Promise<void> } | undefined
  const stop = async (): Promise<void> => {
    const daemon = running
    running = undefined
    await daemon?.stop()
  }
  return {
    ...place,
    async start() {
      running = await startHere(place.home, environment, written)
    },
    async moveToProcess() {
      await stop()
      const child = await serve(place.home, environment, written)
      running = { stop: () => stopProcess(child) }
      return { kill: () => stopProcess(child, 'SIGKILL') }
    },
    output: () => output,
    stop,
    async close() {
      await stop()
      await place.close()
    },
  }
}

/** An issuer of our own with a key set over HTTP: tokens of every kind, good and bad, can be made with its key. */
export interface TestIssuer {
  readonly url: string
  readonly privateKey: KeyObject
  sign(claims: JWTPayload, header?: Record<string, unknown>): Promise<string>
  close(): Promise<void>
}

export const startTestIssuer = async (): Promise<TestIssuer> => {
  const { createServer } = await import('node:http')
  const { privateKey, jwk } = aKeyPair()
  const server = createServer((incoming, response) => {
    response.setHeader('content-type', 'application/json')
    const url = `http://${incoming.headers.host}`
    if (incoming.url === '/jwks') response.end(JSON.stringify({ keys: [jwk] }))
    else if (incoming.url?.startsWith('/.well-known/') === true)
      response.end(JSON.stringify({ issuer: url, jwks_uri: `${url}/jwks` }))
    else response.writeHead(404).end('{}')
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  const address = server.address()
  const url = `http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`
  return {
    url,
    privateKey,
    sign: (claims, header = {}) => {
      const now = Math.floor(Date.now() / 1000)
      return new SignJWT({
        iss: url,
        sub: 'alice',
        iat: now,
        exp: now + 600,
        jti: randomUUID(),
        groups: ['engineering'],
        ...claims,
      })
        .setProtectedHeader({ alg: 'ES256', kid: 'key', typ: 'at+jwt', ...header })
        .sign(privateKey)
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
