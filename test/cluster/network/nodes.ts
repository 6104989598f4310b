/** Three daemons, each on a host of its own, on a pair of Postgres servers and a Redis on hosts of theirs. */
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createSystemRandom } from '../../../src/clock.ts'
import { keyFromText, newKeyText } from '../../../src/foundation/crypto/key-encryption-key.ts'
import { Keyring } from '../../../src/foundation/crypto/keyring.ts'
import { migratePostgres, openPostgresStore } from '../../../src/foundation/store/postgres/open.ts'
import { startOAuthProvider } from '../../doubles/oauth-provider.ts'
import { askersOf, createSubjects, NODES, type AskedNode } from '../../support/cluster.ts'
import { aCompany } from '../../support/configuration.ts'
import { prepareDaemon, startTestIssuer, type Daemon } from '../../support/daemon.ts'
import { grantFiles, seedGrantsInto } from '../../support/grants.ts'
import { CLI, stopProcess } from '../../support/process.ts'
import { startNetwork, type Host, type Network } from './hosts.ts'
import { startPostgresPair, type PostgresPair } from './postgres-pair.ts'

/** ms until a daemon is ready that has to wait for another's lease. */
const START_LIMIT = 60_000

export interface HostedNode extends AskedNode {
  readonly host: Host
}

export interface HostedCluster {
  readonly network: Network
  readonly postgres: PostgresPair
  readonly database: string
  readonly nodes: readonly HostedNode[]
  readonly users: readonly string[]
  /** A further daemon with the name and the files of a node, on another host. */
  twinOf(node: HostedNode, on: Host): Promise<Daemon>
  close(): Promise<void>
}

/** A Unix socket that leads to a port here. */
const leadTo = async (port: number, path: string): Promise<AsyncDisposable> => {
  const server = createServer((near) => {
    const far = connect(port, '127.0.0.1')
    near.on('error', () => far.destroy())
    far.on('error', () => near.destroy())
    near.pipe(far)
    far.pipe(near)
  })
  await once(server.listen(path), 'listening')
  return {
    [Symbol.asyncDispose]: async () => {
      server.close()
    },
  }
}

/** Has a daemon start on a host, and keeps what it writes. */
const startOn = (host: Host, daemon: Daemon): void => {
  let output = ''
  daemon.output = () => output
  daemon.start = async () => {
    const child = host.start(process.execPath, [CLI, 'serve', '--home', daemon.home])
    daemon.process = child
    const ready = new Promise<void>((resolve, reject) => {
      for (const stream of [child.stdout!, child.stderr!])
        stream.on('data', (chunk: Buffer) => {
          output += chunk.toString('utf8')
          if (output.includes('deputy is ready')) resolve()
        })
      child.once('exit', (code) => {
        reject(new Error(`the daemon on ${host.name} ended with ${code}:\n${output.slice(-3000)}`))
      })
      setTimeout(reject, START_LIMIT, new Error(`the daemon on ${host.name} was not ready in time:\n${output}`)).unref()
    })
    await ready
  }
}

export const startHostedCluster = async (options: {
  synchronous: boolean
  users: number
  lease?: string
  skew?: string
}): Promise<HostedCluster> => {
  await using started = new AsyncDisposableStack()
  const network = await startNetwork(['pg1', 'pg2', 'redis', ...NODES])
  started.defer(() => network.close())
  const postgres = await startPostgresPair(network, options)
  started.defer(() => postgres.close())
  const folder = await mkdtemp(join(tmpdir(), 'deputy-hosts-'))
  started.defer(() => rm(folder, { recursive: true, force: true }))
  const issuer = await startTestIssuer()
  started.defer(() => issuer.close())
  const provider = await startOAuthProvider()
  started.defer(() => provider.close())
  const redisHost = network.hosts['redis']!
  const redis = redisHost.start('redis-server', ['--port', '6379', '--bind', redisHost.address, '--save', ''], {})
  redis.stdout!.resume()
  started.defer(() => stopProcess(redis, 'SIGKILL'))

  const outside = [issuer.url, provider.url].map((url) => Number(new URL(url).port))
  for (const port of outside) started.use(await leadTo(port, join(folder, `${port}.sock`)))
  const relays = outside.map((port) => `${port}=${join(folder, `${port}.sock`)}`)
  for (const name of NODES) {
    const relay = network.hosts[name]!.start(process.execPath, [join(import.meta.dirname, 'relay.ts'), ...relays])
    started.defer(() => stopProcess(relay, 'SIGKILL'))
  }

  const database = 'deputy'
  await postgres.query(postgres.first, `create database ${database}`)
  const reached = { host: postgres.address, port: 5432, database, user: 'deputy', tls: false, pool: 10 }
  const direct = { ...reached, password: postgres.password, deadline: 5000 }
  await migratePostgres(direct)
  const random = createSystemRandom()
  const kek = newKeyText(random)
  const keys = join(folder, 'keys')
  const subjects = createSubjects(issuer)
  const prepare = (name: string, issuerUrl: string | undefined): Promise<Daemon> =>
    prepareDaemon(
      {
        ...aCompany({
          issuer: issuer.url,
          notes: { downstreams: { ledger: { scopes: ['ledger:read'] }, 'notes-api': { scopes: ['read'] } } },
        }),
        ...grantFiles(provider),
        'state/kek': kek,
        'postgres-password': postgres.password,
      },
      {
        node: name,
        keys,
        ...(issuerUrl === undefined ? {} : { issuer: issuerUrl }),
        network: { allow_loopback: true, timeout: '2s' },
        store: { postgres: { ...reached, password: { file: 'postgres-password' } } },
        cluster: { lease: options.lease ?? '1s', skew: options.skew ?? '200ms' },
        cache: { redis: { nodes: [`${redisHost.address}:6379`], tls: false } },
      },
    )
  const daemons: Daemon[] = []
  started.defer(async () => {
    for (const daemon of daemons) {
      daemon.process?.kill('SIGCONT')
      await daemon.close()
    }
  })
  const prepareOn = async (name: string, host: Host, issuerUrl?: string): Promise<Daemon> => {
    const daemon = await prepare(name, issuerUrl)
    startOn(host, daemon)
    daemons.push(daemon)
    return daemon
  }
  const nodes: HostedNode[] = []
  let issuerUrl: string | undefined
  for (const name of NODES) {
    const host = network.hosts[name]!
    const daemon = await prepareOn(name, host, issuerUrl)
    issuerUrl ??= `http://127.0.0.1:${daemon.port}`
    nodes.push({ host, ...askersOf(daemon, subjects) })
  }
  for (const { daemon } of nodes) await daemon.start()

  const users = Array.from({ length: options.users }, (_, at) => `user-${at}`)
  const store = await openPostgresStore({ ...direct, node: 'seed' })
  try {
    const envelope = await Keyring.open({ folder: keys, kek: keyFromText(kek, 'test', random), random })
    await seedGrantsInto({ store, envelope }, provider, users)
  } finally {
    await store.close()
  }
  // Everyone has signed in before anything is revoked: a later sign-in would be another matter.
  for (const user of users) await subjects.of(user)
  const whole = started.move()
  return {
    network,
    postgres,
    database,
    nodes,
    users,
    async twinOf(node, on) {
      const twin = await prepareOn(node.host.name, on, issuerUrl)
      await twin.start()
      return twin
    },
    close: () => whole.disposeAsync(),
  }
}
