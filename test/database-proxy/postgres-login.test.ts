import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, type Server, type Socket } from 'node:net'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { createSystemRandom } from '../../src/clock.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { isLoginRejected, logIn, type PostgresAddress } from '../../src/listeners/database-proxy/postgres/login.ts'
import { errorResponse, message } from '../../src/listeners/database-proxy/postgres/messages.ts'
import { aCertificate, findPostgres, startPostgres, type PostgresServer } from '../peers/postgres.ts'

const random = createSystemRandom()
let home: string
beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'deputy-login-'))
})
afterAll(async () => {
  await rm(home, { recursive: true, force: true })
})

const login = (password: string, username = 'deputy'): Secret => new Secret(JSON.stringify({ username, password }))
const attempt = async (
  credential: Secret,
  address: PostgresAddress,
  parameters: Record<string, string> = {},
  timeout = 2000,
): Promise<string> => {
  try {
    const { socket } = await logIn(
      credential,
      { downstream: 'orders', address, parameters: new Map(Object.entries(parameters)) },
      { home, timeout, random },
    )
    socket.destroy()
    return 'in'
  } catch (error) {
    return `${(error as { code: string }).code}: ${String((error as { facts: Record<string, unknown> }).facts['problem'])}`
  }
}

const bin = findPostgres()
describe.skipIf(bin === undefined)('a login at a real Postgres over TLS', () => {
  let server: PostgresServer
  let address: PostgresAddress
  beforeAll(async () => {
    const certificate = await aCertificate('localhost')
    server = await startPostgres(bin!, certificate)
    await writeFile(join(home, 'ca.pem'), certificate.cert)
    await writeFile(join(home, 'other.pem'), (await aCertificate('localhost')).cert)
    address = { host: 'localhost', port: server.port, database: 'postgres', tls: { ca: 'ca.pem' } }
  })
  afterAll(async () => {
    await server?.close()
  })

  it('is made where the certificate is of the right authority and name, and nowhere else', async () => {
    expect(await attempt(login(server.password), address)).toBe('in')
    expect(await attempt(login(server.password), { ...address, tls: { ca: 'other.pem' } })).toMatch(
      /^database_unreachable: (DEPTH_ZERO_SELF_SIGNED_CERT|UNABLE|SELF_SIGNED|ERR_SSL|CERT_SIGNATURE_FAILURE)/,
    )
    expect(await attempt(login(server.password), { ...address, tls: true })).toMatch(/^database_unreachable: /)
    expect(await attempt(login(server.password), { ...address, host: '127.0.0.1' })).toBe(
      'database_unreachable: ERR_TLS_CERT_ALTNAME_INVALID',
    )
    expect(await attempt(login(server.password), { ...address, tls: { ca: 'absent.pem' } })).toBe(
      'database_unreachable: config_invalid',
    )
  })

  it('says what the server says: of the password, of the database, of a setting', async () => {
    expect(await attempt(login('wrong'), address)).toMatch(
      /^database_refused: password authentication failed .*\(28P01\)$/,
    )
    expect(await attempt(login(server.password), { ...address, database: 'nowhere' })).toMatch(
      /^database_refused: database "nowhere" does not exist \(3D000\)$/,
    )
    expect(await attempt(login(server.password), address, { no_such_setting: 'x' })).toMatch(
      /^database_refused: unrecognized configuration parameter/,
    )
    expect(await attempt(new Secret('no login'), address)).toBe(
      'database_refused: the secret is not JSON with username and password',
    )
  })

  it('lets no client choose who it is, or where', async () => {
    expect(
      await attempt(login(server.password), address, { user: 'postgres', database: 'template1', replication: 'true' }),
    ).toBe('in')
  })
})

describe('a login at a server that is none', () => {
  let server: Server | undefined
  const sockets: Socket[] = []
  afterEach(() => {
    for (const socket of sockets.splice(0)) socket.destroy()
    server?.close()
  })
  /** A server that says this, whatever it is asked. */
  const saying = async (bytes: Buffer, end = false): Promise<PostgresAddress> => {
    server = createServer((socket) => {
      sockets.push(socket)
      socket
        .on('error', () => undefined)
        .once('data', () => {
          if (end) socket.end(bytes)
          else socket.write(bytes)
        })
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const bound = server.address()
    return {
      host: '127.0.0.1',
      port: typeof bound === 'object' && bound !== null ? bound.port : 0,
      database: 'x',
      tls: false,
    }
  }
  const request = (kind: number, ...more: Buffer[]): Buffer => message('R', Buffer.from([0, 0, 0, kind]), ...more)

  it('promise 5: gives the password to no server that asks for it in clear, by MD5, or not at all', async () => {
    for (const [kind, words] of [
      [3, 'the password in clear'],
      [5, 'MD5'],
      [0, 'no password at all'],
      [9, 'authentication of type 9'],
    ] as const)
      expect(await attempt(login('x'), await saying(request(kind)))).toContain(`asks for ${words}`)
    expect(await attempt(login('x'), await saying(request(10, Buffer.from('SCRAM-SHA-1\0\0'))))).toContain(
      'does not offer SCRAM-SHA-256',
    )
  })

  it('is over in bounded time, whatever the server does', async () => {
    expect(await attempt(login('x'), await saying(Buffer.alloc(0)), {}, 200)).toMatch(/^database_unreachable/)
    expect(await attempt(login('x'), { ...(await saying(Buffer.alloc(0))), tls: true }, {}, 200)).toMatch(
      /^database_unreachable/,
    )
    expect(await attempt(login('x'), await saying(Buffer.from('R'), true))).toBe(
      'database_unreachable: the connection was closed',
    )
    expect(await attempt(login('x'), await saying(Buffer.from([82, 0x7f, 255, 255, 255])))).toBe(
      'database_unreachable: a message is too short or too long',
    )
    expect(await attempt(login('x'), await saying(Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n')))).toMatch(
      /^database_unreachable/,
    )
    expect(await attempt(login('x'), { ...(await saying(Buffer.from('N'))), tls: true })).toMatch(/does not speak TLS/)
    expect(await attempt(login('x'), { ...(await saying(Buffer.from('S and more'))), tls: true })).toMatch(
      /^database_unreachable/,
    )
  })

  it('tells a login that is not right any more from other refusals', async () => {
    const refusedWith = async (code: string): Promise<boolean> => {
      const address = await saying(errorResponse({ code, message: 'no', hint: '', detail: '' }))
      return logIn(
        login('x'),
        { downstream: 'orders', address, parameters: new Map() },
        { home, timeout: 1000, random },
      ).then(() => false, isLoginRejected)
    }
    expect([
      await refusedWith('28P01'),
      await refusedWith('28000'),
      await refusedWith('53300'),
      isLoginRejected(new Error('(28P01)')),
    ]).toEqual([true, true, false, false])
  })
})
