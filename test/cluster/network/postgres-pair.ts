/** Two real Postgres servers on two hosts, the second a streaming standby of the first, behind one address that moves. */
import { execFile, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { appendFile, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { Client } from 'pg'
import { asOwner, findPostgres, findTemplate, giveTo } from '../../peers/postgres.ts'
import type { Host, Network } from './hosts.ts'

const run = promisify(execFile)
const PORT = 5432
/** Room of a server's data on its disk, MB: a scenario fills it. */
const DISK = 400

export interface PostgresPair {
  /** Whom the nodes ask. */
  readonly address: string
  readonly password: string
  readonly first: Host
  readonly second: Host
  /** Folder of the first server's data, on a file system of its own. */
  readonly disk: string
  /** Runs SQL at one of them, over its Unix socket. */
  query(at: Host, sql: string, database?: string): Promise<Record<string, unknown>[]>
  /** Ends a server as a power cut does. */
  kill(at: Host): Promise<void>
  /** The one that takes writes. */
  primary(): Host
  /** Makes the second one the primary, and gives it the address. */
  promote(): Promise<void>
  signal(at: Host, signal: NodeJS.Signals): void
  /** Starts a server that has ended by itself. */
  restartIfEnded(at: Host): Promise<void>
  close(): Promise<void>
}

const waitFor = async (what: string, work: () => Promise<boolean>): Promise<void> => {
  for (let at = 0; !(await work().catch(() => false)); at += 1) {
    if (at === 400) throw new Error(`${what}: not within its time`)
    await new Promise((resolve) => {
      setTimeout(resolve, 50)
    })
  }
}

/** @param synchronous a commit waits for the standby */
export const startPostgresPair = async (
  network: Network,
  { synchronous }: { synchronous: boolean },
): Promise<PostgresPair> => {
  await using started = new AsyncDisposableStack()
  const [first, second] = [network.hosts['pg1']!, network.hosts['pg2']!]
  const bin = findPostgres()!
  const { data: template, password } = await findTemplate(bin)
  const owner = await asOwner()
  const folder = await mkdtemp(join(tmpdir(), 'deputy-pair-'))
  started.defer(() => rm(folder, { recursive: true, force: true }))
  const folderOf = (host: Host): string => join(folder, host.name)
  const dataOf = (host: Host): string => join(folderOf(host), 'data')
  const processes = new Map<Host, ChildProcess>()
  const query = async (at: Host, sql: string, database = 'postgres'): Promise<Record<string, unknown>[]> => {
    const client = new Client({ host: folderOf(at), port: PORT, user: 'deputy', password, database })
    client.on('error', () => undefined)
    await client.connect()
    try {
      return (await client.query<Record<string, unknown>>(sql)).rows
    } finally {
      await client.end()
    }
  }
  const asPostgres =
    owner === undefined ? [] : ['setpriv', `--reuid=${owner.uid}`, `--regid=${owner.gid}`, '--clear-groups']
  const start = async (host: Host, more: readonly string[]): Promise<void> => {
    const [program, ...args] = [...asPostgres, join(bin, 'postgres')]
    const set = [
      `listen_addresses=* port=${PORT} unix_socket_directories=${folderOf(host)} max_connections=80 tcp_user_timeout=5s`,
      'wal_level=replica wal_keep_size=64MB min_wal_size=32MB max_wal_size=64MB wal_sender_timeout=3s wal_receiver_timeout=3s',
      'fsync=off autovacuum=off jit=off',
      ...more,
    ].flatMap((line) => line.split(' '))
    const child = host.start(program!, [...args, '-D', dataOf(host), ...set.flatMap((each) => ['-c', each])])
    child.stdout!.resume()
    child.stderr!.resume()
    processes.set(host, child)
    await waitFor(`${host.name} answers`, async () => (await query(host, 'select 1')).length === 1)
  }
  const kill = async (host: Host): Promise<void> => {
    const child = processes.get(host)
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const gone = once(child, 'exit')
    child.kill('SIGCONT')
    child.kill('SIGQUIT')
    await gone
  }
  for (const host of [first, second]) {
    await run('mkdir', ['-p', folderOf(host)])
    await run('mount', ['-t', 'tmpfs', '-o', `size=${DISK}m`, 'tmpfs', folderOf(host)])
    started.defer(async () => {
      await run('umount', ['-l', folderOf(host)])
    })
    started.defer(() => kill(host))
  }
  await run('cp', ['-a', template, dataOf(first)])
  await appendFile(
    join(dataOf(first), 'pg_hba.conf'),
    'host all all 10.213.0.0/16 scram-sha-256\nhost replication all 10.213.0.0/16 scram-sha-256\n',
  )
  await giveTo(owner, folderOf(first))
  await run('chmod', ['755', folder])
  await start(first, [])
  const standby = `host=${first.address} port=${PORT} user=deputy password=${password} application_name=standby`
  const copying = ['-D', dataOf(second), '-R', '-X', 'stream', '-c', 'fast', '-d', standby]
  await run(second.prefix[0], [...second.prefix.slice(1), join(bin, 'pg_basebackup'), ...copying])
  await giveTo(owner, folderOf(second))
  await start(second, [])
  await waitFor(
    'the standby streams',
    async () => (await query(first, "select 1 from pg_stat_replication where state = 'streaming'")).length === 1,
  )
  if (synchronous) {
    await query(first, "alter system set synchronous_standby_names = 'ANY 1 (standby)'")
    await query(first, 'select pg_reload_conf()')
  }
  const address = network.addressOf(100)
  await network.move(address, first)
  let primary = first
  const whole = started.move()
  return {
    address,
    password,
    first,
    second,
    disk: folderOf(first),
    query,
    kill,
    primary: () => primary,
    async promote() {
      await query(second, 'select pg_promote()')
      await network.move(address, second)
      primary = second
    },
    async restartIfEnded(at) {
      const child = processes.get(at)!
      if (child.exitCode !== null || child.signalCode !== null) await start(at, [])
    },
    signal: (at, signal) => void processes.get(at)!.kill(signal),
    close: () => whole.disposeAsync(),
  }
}
