import {
  Client,
  type ClientBase,
  type ClientConfig,
  type CustomTypesConfig,
  DatabaseError,
  Pool,
  type PoolClient,
  types,
} from 'pg'
import { DeputyError, refuse } from '#errors'
import { currentTls, type TlsMaterial } from '#foundation/files'
import { prepareSession } from './session.ts'

/** https://www.postgresql.org/docs/current/errcodes-appendix.html: class 23 is integrity constraint violation. */
const CONSTRAINT = /^23/

/** How a Postgres server is reached. */
export interface PostgresOptions {
  readonly host: string
  readonly port: number
  readonly database: string
  readonly user: string
  readonly password?: string | undefined
  /**
   * The authority that counts, and the certificate that is presented, in PEM; `true`: the authorities of the system;
   * false: no TLS, for a server on this machine. Each new connection reads the members: they may have been renewed.
   */
  readonly tls: TlsMaterial | boolean
  /** Connections at most. */
  readonly pool: number
  /** ms in which the server must answer a statement, or a connection be there. */
  readonly deadline: number
}

/** Bytes as the embedded store gives them; the driver would make Buffers (https://www.postgresql.org/docs/current/datatype-binary.html, hex format). */
const BYTEA = 17
const parsers = {
  getTypeParser: (oid: number, format?: 'text' | 'binary') =>
    oid === BYTEA
      ? (text: string) => Uint8Array.from(Buffer.from(text.slice(2), 'hex'))
      : types.getTypeParser(oid, format as 'text'),
} as CustomTypesConfig

export const isConstraint = (error: unknown): boolean =>
  error instanceof DatabaseError && CONSTRAINT.test(error.code ?? '')

/** What went wrong, in words that hold no parameter and no password. */
const problemOf = (error: unknown): string => {
  if (error instanceof DatabaseError) return `Postgres says ${error.code ?? 'an error'}: ${error.message.slice(0, 200)}`
  const { code, message } = error as { code?: string; message?: string }
  // The driver's words for a server that answers the request for TLS with no.
  if (String(message).includes('does not support SSL'))
    return 'the server speaks no TLS; turn TLS on there, or set `tls: false` under store.postgres in deputy.yaml to connect without it'
  if (String(message).startsWith('Connection terminated')) return 'the connection broke: Postgres cannot be reached'
  if (code === 'ERR_OSSL_X509_KEY_VALUES_MISMATCH')
    return 'the certificate and the key under store.postgres.tls in deputy.yaml do not belong together'
  return code === undefined ? String(message).slice(0, 200) : `${code}: Postgres cannot be reached`
}

/** An error of the driver as one of the taxonomy. */
export const toStoreError = (error: unknown): DeputyError =>
  error instanceof DeputyError
    ? error
    : isConstraint(error)
      ? refuse('conflict', { what: 'record' }, error)
      : refuse('store_unavailable', { problem: problemOf(error) }, error)

/** After so long without a packet the kernel asks whether the other side is still there, each second, ten times (libuv's `uv_tcp_keepalive`). */
const KEEP_ALIVE_MS = 2000

/** The driver reads this object when it connects. */
const sslOf = (tls: PostgresOptions['tls']): ClientConfig['ssl'] =>
  typeof tls === 'boolean'
    ? tls && { rejectUnauthorized: true }
    : Object.assign(currentTls(tls), { rejectUnauthorized: true })

const connectionOf = (options: PostgresOptions): ClientConfig => ({
  host: options.host,
  port: options.port,
  database: options.database,
  user: options.user,
  ...(options.password === undefined ? {} : { password: options.password }),
  ssl: sslOf(options.tls),
  types: parsers,
  connectionTimeoutMillis: options.deadline,
  query_timeout: options.deadline + 500,
  // Seconds, not the two hours of most kernels: an address may have moved to another machine.
  keepAlive: true,
  keepAliveInitialDelayMillis: KEEP_ALIVE_MS,
  application_name: 'deputy',
})

/** A connection outside of the pool, for who listens. */
export const createClient = (options: PostgresOptions): Client => new Client(connectionOf(options))

/**
 * A pool of connections (https://node-postgres.com/apis/pool), each set up and checked before it is used: a write has
 * happened durably when it is answered, also where the server's default is another or a pooler is in between.
 */
export const createPool = (options: PostgresOptions): Pool => {
  const prepare = (client: ClientBase): Promise<void> => prepareSession(client, options.deadline)
  const pool = new Pool({
    ...connectionOf(options),
    max: options.pool,
    // The pool waits for what this returns (https://node-postgres.com/apis/pool); its types say only that it is called.
    onConnect: prepare as (client: ClientBase) => void,
  })
  // A connection that breaks is replaced by the pool. Its user learns of it from the query; the event by itself,
  // which comes for idle connections and between the statements of a transaction, would end the process.
  pool.on('error', () => undefined)
  pool.on('connect', (client) => {
    client.on('error', () => undefined)
  })
  return pool
}

/** Work within one transaction. @throws DeputyError `conflict`, `store_unavailable` */
export const inTransaction = async <T>(pool: Pool, work: (client: PoolClient) => Promise<T>): Promise<T> => {
  let client
  try {
    client = await pool.connect()
  } catch (error) {
    throw toStoreError(error)
  }
  let broken: Error | undefined
  try {
    await client.query('begin')
    const result = await work(client)
    await client.query('commit')
    return result
  } catch (error) {
    try {
      await client.query('rollback')
    } catch (failure) {
      broken = failure as Error
    }
    throw toStoreError(error)
  } finally {
    client.release(broken)
  }
}
