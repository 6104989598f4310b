/**
 * `npm run bench:rotation -- [secrets]`: many secrets that are due at once, at a target whose every answer takes 5 ms, with
 * the store durable; what a cached secret costs compared with a cached credential; and when leases that began together
 * are renewed.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { createMemoryCache } from '../src/foundation/cache/memory.ts'
import { createSystemRandom, systemClock } from '../src/clock.ts'
import { rotationPolicySchema } from '../src/config/rotation-policy.ts'
import { keyFromText, newKeyText } from '../src/foundation/crypto/key-encryption-key.ts'
import { Keyring } from '../src/foundation/crypto/keyring.ts'
import { Secret } from '../src/foundation/crypto/secret.ts'
import { silentLogger } from '../src/foundation/telemetry/logger.ts'
import { createRotationEngine } from '../src/flows/rotation/engine.ts'
import { createTargetLimits } from '../src/flows/rotation/limited.ts'
import type { Rotator } from '../src/flows/rotation/rotator.ts'
import { RotationScheduler } from '../src/flows/rotation/scheduler.ts'
import { createEmbeddedSecrets } from '../src/credentials/secret/embedded.ts'
import { SecretCache } from '../src/credentials/secret/secret-cache.ts'
import { Leases } from '../src/credentials/secret/leases.ts'
import { openSqliteStore } from '../src/foundation/store/sqlite/open.ts'

const [SECRETS = 10_000] = process.argv.slice(2).map(Number)
const TARGET = 5
const CONCURRENCY = 4
const AT_ONCE = 200
const HOUR = 3_600_000

const print = (line: string): void => {
  process.stdout.write(`${line}\n`)
}
const random = createSystemRandom()
const folder = await mkdtemp(join(tmpdir(), 'deputy-bench-rotation-'))
const store = await openSqliteStore({ path: join(folder, 'deputy.db') })
const envelope = await Keyring.open({
  folder: join(folder, 'keys'),
  kek: keyFromText(newKeyText(random), 'bench', random),
  random,
})
const backend = createEmbeddedSecrets({ store: store.secrets, envelope, clock: systemClock })
const silentAudit = { append: () => Promise.resolve() }

const measureRotations = async (): Promise<void> => {
  const policy = rotationPolicySchema.parse({
    rotation: 'bench',
    owner: 'bench',
    secrets: { tenants: ['acme'], name: '*' },
    when: { every: '30d' },
    grace: '0s',
    concurrency: CONCURRENCY,
    how: { rotator: 'command', command: 'bench' },
  })
  const secrets = Array.from({ length: SECRETS }, (_, index) => ({
    tenant: 'acme',
    backend: 'embedded',
    secret: `secret-${index}`,
  }))
  for (let at = 0; at < SECRETS; at += AT_ONCE) {
    await Promise.all(
      secrets.slice(at, at + AT_ONCE).map(async (secret) => {
        await backend.write('acme', secret.secret, new Secret('old'))
        await store.rotations.putTarget({ ...secret, policy: 'bench', rotatedAt: 0, nextAt: 1, paused: null })
      }),
    )
  }
  let [inside, most, calls] = [0, 0, 0]
  const answer = async <T>(value: T): Promise<T> => {
    calls += 1
    inside += 1
    most = Math.max(most, inside)
    await sleep(TARGET)
    inside -= 1
    return value
  }
  const ended = new Set<string>()
  const limited = createTargetLimits()
  const rotator: Rotator = {
    kind: 'bench',
    target: 'bench',
    supportsDualSecrets: true,
    next: () => new Secret(Buffer.from(random.bytes(16)).toString('base64url')),
    apply: () => answer(undefined),
    login: (value) => answer(ended.has(value.reveal()) ? 'refused' : 'works'),
    retire: (old) => {
      ended.add(old.reveal())
      return answer(undefined)
    },
  }
  const engine = createRotationEngine({
    rotations: store.rotations,
    envelope,
    backendOf: () => backend,
    rotatorOf: () => limited(rotator, CONCURRENCY),
    changed: () => undefined,
    isCheckedOut: () => Promise.resolve(false),
    audit: silentAudit,
    clock: systemClock,
    monotonic: () => performance.now(),
    logger: silentLogger,
    owner: 'bench',
  })
  const scheduler = new RotationScheduler({
    rotations: store.rotations,
    engine,
    policies: () => [policy],
    secretsOf: () => Promise.resolve(secrets),
    targetOf: () => rotator.target,
    audit: silentAudit,
    notify: () => Promise.resolve(),
    clock: systemClock,
    monotonic: () => performance.now(),
    logger: silentLogger,
    shared: false,
  })
  const before = process.memoryUsage.rss()
  const began = performance.now()
  scheduler.start()
  let rss = before
  for (;;) {
    await sleep(250)
    rss = Math.max(rss, process.memoryUsage.rss())
    const open =
      (await store.rotations.dueTargets(Date.now(), 1)).length +
      (await store.rotations.due(Date.now() + HOUR, 1, Number.MAX_SAFE_INTEGER)).length
    if (open === 0) break
  }
  const wall = performance.now() - began
  await scheduler.close()
  const done = (await store.rotations.list({ state: 'done' }, SECRETS + 1)).length
  const atTarget = (calls * TARGET) / CONCURRENCY
  print(
    `${done} of ${SECRETS} rotations in ${(wall / 1000).toFixed(1)} s, ${CONCURRENCY} at a time at a target that answers in ${TARGET} ms; ${(calls / SECRETS).toFixed(1)} calls each`,
  )
  print(
    `  wall time / time at the target        ${(wall / atTarget).toFixed(2)} (goal <= 1.2), of one call each ${(wall / ((SECRETS * TARGET) / CONCURRENCY)).toFixed(2)}`,
  )
  print(`  most calls at the target at once      ${most} (goal <= ${CONCURRENCY})`)
  print(`  growth of memory                      ${Math.round((rss - before) / 1_048_576)} MB (goal < 100 MB)`)
}

const measureReads = async (): Promise<void> => {
  const secrets = new SecretCache(backend, {
    fresh: HOUR,
    stale: HOUR,
    limit: HOUR,
    id: 'bench',
    logger: silentLogger,
    clock: systemClock,
    monotonic: () => performance.now(),
  })
  const cache = createMemoryCache<{ credential: string }>({ entries: 20_000, clock: systemClock })
  await secrets.read('acme', 'secret-0')
  cache.set('key', { credential: 'token' }, Date.now() + HOUR)
  const loops = 300_000
  const timed = async (work: () => unknown): Promise<number> => {
    const began = performance.now()
    for (let index = 0; index < loops; index += 1) await work()
    return ((performance.now() - began) * 1000) / loops
  }
  const rounds: [number, number][] = []
  for (let round = 0; round < 5; round += 1)
    rounds.push([await timed(() => cache.get('key')), await timed(() => secrets.read('acme', 'secret-0'))])
  const median = (values: number[]): number => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!
  const [token, secret] = [median(rounds.map(([each]) => each)), median(rounds.map(([, each]) => each))]
  print(
    `a cached secret ${secret.toFixed(2)} µs, a cached credential ${token.toFixed(2)} µs: ${(secret - token).toFixed(2)} µs more`,
  )
}

const measureLeases = async (): Promise<void> => {
  let made = 0
  const leases = new Leases({
    store: store.leases,
    envelope,
    isVoid: () => false,
    isWanted: () => true,
    audit: silentAudit,
    clock: systemClock,
    random,
    logger: silentLogger,
    backendOf: () => ({
      renew: () => Promise.resolve({ duration: HOUR, isLast: false }),
      end: () => Promise.resolve(),
    }),
  })
  const make = () =>
    Promise.resolve({ value: new Secret('login'), lease: String((made += 1)), duration: HOUR, renewable: true })
  const now = Date.now()
  for (let at = 0; at < SECRETS; at += AT_ONCE) {
    await Promise.all(
      Array.from({ length: Math.min(AT_ONCE, SECRETS - at) }, (_, index) =>
        leases.obtain(
          { tenant: 'acme', user: `user-${at + index}`, server: 'notes', downstream: 'orders' },
          { backend: 'vault', role: 'reader' },
          make,
        ),
      ),
    )
  }
  const minutes = Map.groupBy(await store.leases.list({}), ({ nextAt }) => Math.floor((nextAt - now) / 60_000))
  const counts = [...minutes.values()].map((each) => each.length)
  print(
    `${SECRETS} leases of an hour that began together are renewed over ${counts.length} minutes, at most ${Math.max(...counts)} in one (evenly: ${Math.round(SECRETS / 15)})`,
  )
}

await measureRotations()
await measureReads()
await measureLeases()
await store.close()
await rm(folder, { recursive: true, force: true })
