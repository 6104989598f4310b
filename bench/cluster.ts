/**
 * `npm run bench:cluster`: what many nodes cost, on a real Postgres and a real Redis. How long a revocation takes, with all
 * nodes well and with one cut off; a cached exchange of a node with a lease beside one of the embedded store; a credential
 * out of Redis beside a bare GET; two daemons beside one. Ratios in one run, except for what the goal says in milliseconds.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { createSharedBytes, redisKey } from '../src/foundation/redis/redis.ts'
import { createSystemRandom, systemClock } from '../src/clock.ts'
import { createFingerprint } from '../src/foundation/crypto/fingerprint.ts'
import { keyFromText, newKeyText } from '../src/foundation/crypto/key-encryption-key.ts'
import { Keyring } from '../src/foundation/crypto/keyring.ts'
import { Secret } from '../src/foundation/crypto/secret.ts'
import { createSharedCredentials } from '../src/credentials/cache/shared-credentials.ts'
import { aCompany, RESOURCES } from '../test/support/configuration.ts'
import { startCluster, type Cluster } from '../test/support/cluster.ts'
import { startDaemonProcess } from '../test/support/daemon.ts'
import { exchangeForm, load } from './load.ts'
import { loadOnThread } from './load-thread.ts'

const LEASE = 2000
const SKEW = 500
const REVOCATIONS = 300

const print = (line: string): void => {
  process.stdout.write(`${line}\n`)
}
const quantile = (times: readonly number[], part: number): number =>
  times.toSorted((a, b) => a - b)[Math.min(times.length - 1, Math.floor(times.length * part))]!

const revoke = async (cluster: Cluster, user: string): Promise<number> => {
  const began = performance.now()
  const scope = { kind: 'user', tenant: 'acme', user }
  const { status } = await cluster.nodes[0]!.admin('/revoke', { scope, force: true })
  if (status !== 200) throw new Error(`the revocation was answered with ${status}`)
  return performance.now() - began
}

const measureRevocations = async (cluster: Cluster): Promise<void> => {
  const times: number[] = []
  for (let at = 0; at < REVOCATIONS; at += 1) times.push(await revoke(cluster, `somebody-${at}`))
  print(
    `revocation, all nodes well   p50 ${quantile(times, 0.5).toFixed(1)} ms, p99 ${quantile(times, 0.99).toFixed(1)} ms of ${REVOCATIONS} (goal p99 <= 50 ms)`,
  )
  cluster.nodes[2]!.toPostgres.stall()
  const cutOff = [await revoke(cluster, 'cut-off-1'), await revoke(cluster, 'cut-off-2')]
  cluster.nodes[2]!.toPostgres.heal()
  print(
    `revocation, one node cut off ${cutOff.map((time) => `${Math.round(time)} ms`).join(', then ')} (goal <= lease + drift bound = ${LEASE + SKEW} ms)`,
  )
}

/** Seconds of load beside the revocations. */
const LOAD_S = 6

/** Revocations at one node while the others, and the store, do all that the processors can. */
const measureUnderLoad = async (cluster: Cluster): Promise<void> => {
  const subject = await cluster.issuer.sign({
    aud: RESOURCES.notes,
    org: 'acme',
    exp: Math.floor(Date.now() / 1000) + 3600,
  })
  const loads = cluster.nodes.slice(1).map(({ daemon }) =>
    loadOnThread({
      to: { origin: 'http://localhost', socketPath: daemon.socketPath },
      path: '/oauth2/token',
      body: exchangeForm(subject, 'ledger', 'ledger:read'),
      seconds: LOAD_S,
    }),
  )
  let isOver = false
  const ended = Promise.all(loads).finally(() => {
    isOver = true
  })
  await sleep(LOAD_S * 100)
  const times: number[] = []
  while (!isOver) times.push(await revoke(cluster, `under-load-${times.length}`))
  const sum = (await ended).reduce((total, { perSecond }) => total + perSecond, 0)
  print(
    `revocation, nodes saturated  p50 ${quantile(times, 0.5).toFixed(1)} ms, p99 ${quantile(times, 0.99).toFixed(1)} ms of ${times.length}, beside ${Math.round(sum)} exchanges/s`,
  )
}

const measureExchanges = async (cluster: Cluster): Promise<void> => {
  const subject = await cluster.issuer.sign({
    aud: RESOURCES.notes,
    org: 'acme',
    exp: Math.floor(Date.now() / 1000) + 3600,
  })
  const body = (): string => exchangeForm(subject, 'ledger', 'ledger:read')
  const alone = await startDaemonProcess(aCompany({ issuer: cluster.issuer.url }))
  const to = (socketPath: string) => ({ origin: 'http://localhost', socketPath })
  const [one, two] = cluster.nodes.map(({ daemon }) => to(daemon.socketPath))
  for (const target of [to(alone.socketPath), one!, two!]) await load(target, '/oauth2/token', body, 1)
  const single = await load(to(alone.socketPath), '/oauth2/token', body)
  const leased = await load(one!, '/oauth2/token', body)
  print(
    `cached exchange              ${Math.round(leased.perSecond)}/s with a lease on Postgres, ${Math.round(single.perSecond)}/s on the embedded store = ${(leased.perSecond / single.perSecond).toFixed(2)} (goal >= 0.95)`,
  )
  await alone.stop()
  const both = await Promise.all([load(one!, '/oauth2/token', body), load(two!, '/oauth2/token', body)])
  const sum = both.reduce((total, { perSecond }) => total + perSecond, 0)
  print(
    `two daemons                  ${Math.round(sum)}/s, one ${Math.round(leased.perSecond)}/s = ${(sum / leased.perSecond).toFixed(2)} (goal >= 1.6; the client and Postgres share the cores)`,
  )
  await alone.close()
}

const measureShared = async (cluster: Cluster, folder: string): Promise<void> => {
  const random = createSystemRandom()
  const bytes = createSharedBytes(
    {
      mode: 'single',
      nodes: [{ host: '127.0.0.1', port: cluster.redis.port }],
      master: '',
      username: undefined,
      password: undefined,
      tls: false,
      deadline: 1000,
    },
    { logger: { info() {}, warn() {}, error() {} } as never, monotonic: () => performance.now() },
  )
  const envelope = await Keyring.open({ folder, kek: keyFromText(newKeyText(random), 'bench', random), random })
  const shared = createSharedCredentials({
    bytes,
    envelope,
    fingerprint: createFingerprint(new Secret(Buffer.alloc(32).toString('base64'))),
    generationOf: () => '',
    clock: systemClock,
    logger: { warn() {} } as never,
  })
  const bare = new Redis({ host: '127.0.0.1', port: cluster.redis.port })
  await bare.ping()
  const expiresAt = Date.now() + 600_000
  await shared.set(
    'bench',
    {
      credential: {
        token: new Secret('x'.repeat(900)),
        issuedTokenType: 'urn:ietf:params:oauth:token-type:access_token',
        tokenType: 'Bearer',
        scopes: ['read'],
        expiresAt,
        overScoped: false,
        auditNote: 'a story',
      },
      tenant: 'acme',
      user: 'alice',
      server: 'notes',
      downstreams: ['notes-api'],
      provider: 'notes',
      tokens: ['https://idp.example#1'],
      since: Date.now(),
      known: 0,
    },
    expiresAt,
  )
  const timed = async (work: () => Promise<unknown>): Promise<number> => {
    for (let at = 0; at < 500; at += 1) await work()
    const began = performance.now()
    for (let at = 0; at < 5000; at += 1) await work()
    return (performance.now() - began) / 5
  }
  if ((await shared.get('acme', 'bench')) === undefined) throw new Error('nothing was shared')
  const get = await timed(() => bare.getBuffer(redisKey('credential', 'bench')))
  const opened = await timed(() => shared.get('acme', 'bench'))
  print(
    `credential out of Redis      ${opened.toFixed(0)} µs, bare GET ${get.toFixed(0)} µs = ${(opened / get).toFixed(2)} (goal <= 2)`,
  )
  bare.disconnect()
  await bytes.close()
}

const cluster = await startCluster({ lease: `${LEASE}ms`, skew: `${SKEW}ms`, durable: true, linesOnThreads: true })
try {
  await measureRevocations(cluster)
  await measureUnderLoad(cluster)
  await measureExchanges(cluster)
  await measureShared(cluster, `${cluster.nodes[0]!.daemon.home}/bench-keys`)
} finally {
  await cluster.close()
}
