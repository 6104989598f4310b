import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { aCompany, RESOURCES } from '../support/configuration.ts'
import {
  ACCESS_TOKEN,
  prepareDaemon,
  startTestIssuer,
  TOKEN_EXCHANGE,
  type Daemon,
  type TestIssuer,
} from '../support/daemon.ts'
import { findPostgres, startPostgres, type PostgresServer } from '../peers/postgres.ts'
import { migratePostgres } from '../../src/foundation/store/postgres/open.ts'
import { DatabaseError } from 'pg'
import { refuse } from '../../src/errors.ts'
import { createOutageLog } from '../../src/foundation/telemetry/outage.ts'
import { createLogger } from '../../src/foundation/telemetry/pino-logger.ts'

const lines: string[] = []
const logger = createLogger({ level: 'debug', destination: { write: (line) => lines.push(line) } })

describe('fault 36: errors in the log', () => {
  it('fault 36: SQLSTATE and the codes of the system are readable, and a stack is there once', () => {
    lines.length = 0
    const cause = Object.assign(new DatabaseError('the database system is starting up', 1, 'error'), { code: '57P03' })
    logger.error({ err: refuse('store_unavailable', { problem: 'x' }, cause) }, 'failed')
    const [line] = lines
    expect(JSON.parse(line!)).toMatchObject({ err: { code: 'store_unavailable', cause: { code: '57P03' } } })
    const { stack, cause: inner } = (JSON.parse(line!) as { err: { stack: string; cause: { stack: string } } }).err
    expect(stack).not.toContain('starting up')
    expect(inner.stack.split('starting up')).toHaveLength(2)
    expect(line).not.toContain('[secret]')
    expect(line!.split('the database system is starting up')).toHaveLength(3)
  })

  it('fault 36, promise 5: an authorization code is still struck out', () => {
    lines.length = 0
    logger.error({ code: 'abc', answer: { code: 'def', access_token: 'ghi' } }, 'failed')
    expect(lines.join()).not.toMatch(/abc|def|ghi/)
  })

  it('fault 36: an outage is two lines, whatever fails meanwhile; other errors are told as before', () => {
    lines.length = 0
    let now = 0
    const outages = createOutageLog({ logger, store: 'postgres db:5432/deputy', elapsed: () => now })
    const away = refuse('store_unavailable', { problem: 'ECONNREFUSED' })
    outages.logger.error({ err: refuse('membership_lost', { node: 'a', problem: 'clock' }) }, 'not an outage')
    outages.logger.warn({ err: away }, 'one')
    outages.logger.warn({ err: new Error('around', { cause: away }) }, 'two')
    outages.logger.debug({ err: away, correlation_id: 'x' }, 'a request')
    outages.logger.error({ err: new Error('else') }, 'else')
    outages.answered()
    now = 10_000
    outages.answered()
    outages.answered()
    const told = lines
      .map((line) => JSON.parse(line) as Record<string, unknown>)
      .filter(({ level }) => level !== 'debug')
    expect(told.map(({ message }) => message)).toEqual([
      'not an outage',
      'store unavailable: requests are refused until it answers',
      'else',
      'store available again',
    ])
    expect(told[3]).toMatchObject({ seconds: 10, refused: 1, store: 'postgres db:5432/deputy' })
  })
})

const bin = findPostgres()
describe.skipIf(bin === undefined)('fault 36: with a real Postgres', () => {
  let server: PostgresServer
  let issuer: TestIssuer
  let daemon: Daemon | undefined
  beforeAll(async () => {
    server = await startPostgres(bin!)
    issuer = await startTestIssuer()
  })
  afterAll(async () => {
    await daemon?.close()
    await server?.close()
    await issuer?.close()
  })

  const prepare = async (tls: boolean): Promise<Daemon> => {
    const database = await server.createDatabase()
    const reached = { host: '127.0.0.1', port: server.port, database, user: 'deputy', tls }
    await migratePostgres({ ...reached, tls: false, password: server.password, pool: 2, deadline: 2000 })
    return prepareDaemon(
      { ...aCompany({ issuer: issuer.url }), 'postgres-password': server.password },
      { store: { postgres: { ...reached, password: { file: 'postgres-password' }, deadline: '1s' } } },
    )
  }

  it('fault 36: an outage with requests is one line at each change of state', async () => {
    daemon = await prepare(false)
    await daemon.start()
    const subject = await issuer.sign({ aud: RESOURCES.notes, org: 'acme' })
    const exchange = () =>
      daemon!.token({
        grant_type: TOKEN_EXCHANGE,
        subject_token: subject,
        subject_token_type: ACCESS_TOKEN,
        audience: 'ledger',
      })
    expect((await exchange()).status).toBe(200)
    const before = daemon.output().length
    await server.kill()
    const until = Date.now() + 5000
    let refused = 0
    while (Date.now() < until) {
      const { status } = await exchange()
      if (status !== 200) refused += 1
      await new Promise((resolve) => {
        setTimeout(resolve, 50)
      })
    }
    await server.start()
    await vi.waitFor(() => {
      expect(daemon!.output()).toContain('store available again')
    }, 20_000)
    expect((await exchange()).status).toBe(200)
    const written = daemon.output().slice(before)
    const told = written.trim().split('\n')
    expect(refused).toBeGreaterThan(3)
    // The store, and the audit sink that is in it, each at the begin and the end; and what the restart has lost: nothing.
    expect(told.length, written).toBeLessThanOrEqual(5)
    expect(written.length).toBeLessThan(1200)
    const ofStore = told.filter((line) => line.includes(`127.0.0.1:${server.port}`))
    expect(ofStore).toHaveLength(2)
    expect(ofStore[0]).toContain('store unavailable')
    expect((JSON.parse(ofStore[1]!) as { refused: number }).refused).toBeGreaterThan(0)
  })

  it('fault 36: a server without TLS: the error names the setting', async () => {
    const other = await prepare(true)
    try {
      await expect(other.start()).rejects.toThrow(/speaks no TLS; .*tls: false. under store\.postgres/)
    } finally {
      await other.close()
    }
  })
})
