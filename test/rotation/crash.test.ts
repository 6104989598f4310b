import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { BACK_POINTS, FORWARD_POINTS } from '../../src/flows/rotation/acts.ts'
import { createRotationEngine, type RotationEngine } from '../../src/flows/rotation/engine.ts'
import { rotationPolicySchema, type RotationPolicy } from '../../src/config/rotation-policy.ts'
import { createRotatingSecrets } from '../../src/flows/rotation/reading.ts'
import type { ChoosingRotator, Rotator } from '../../src/flows/rotation/rotator.ts'
import { RotationScheduler } from '../../src/flows/rotation/scheduler.ts'
import type { StagedSecrets } from '../../src/credentials/secret/backend.ts'
import { createEmbeddedSecrets } from '../../src/credentials/secret/embedded.ts'
import type { Rotation } from '../../src/foundation/store/records/rotations.ts'
import type { RotatorPlace } from '../conformance/rotator.ts'
import { findPostgres, startPostgres, type PostgresServer } from '../peers/postgres.ts'
import { findRedis, startRedis, type RedisServer } from '../peers/redis.ts'
import { startGround, type KeysAndStore } from '../support/keyring.ts'
import { aClock } from '../support/snapshot.ts'
import { anAws, aVault } from '../support/vaults.ts'
import { anOAuthClient, aPostgresRole, aRedisUser, aVaultStaticRole, aWebhook, ownKeys } from './places.ts'

/** A rotation that has made so many acts goes round in a circle. */
const MAX_ACTS = 200

const SECRET = { tenant: 'acme', backend: 'embedded', secret: 'database' }
const GRACE = 60_000
const policyOf = (given: object = {}): RotationPolicy =>
  rotationPolicySchema.parse({
    rotation: 'database',
    owner: 'data@example.com',
    secrets: { name: 'data*' },
    when: { every: '30d' },
    grace: `${GRACE}ms`,
    how: { rotator: 'redis', host: '127.0.0.1', user: 'x', admin: { secret: 'admin' } },
    ...given,
  })

const quiet = { info() {}, warn() {}, error() {} } as never

/** Where the secret is kept that rotates. */
type Keeping = (
  keysAndStore: KeysAndStore,
  clock: ReturnType<typeof aClock>,
) => Promise<{ backend: StagedSecrets; write(value: Secret): Promise<void>; close(): Promise<void> }>
const embedded: Keeping = (keysAndStore, clock) => {
  const backend = createEmbeddedSecrets({ store: keysAndStore.store.secrets, envelope: keysAndStore.envelope, clock })
  return Promise.resolve({
    backend,
    async write(value) {
      await backend.write('acme', 'database', value)
    },
    close: () => Promise.resolve(),
  })
}
const inVault: Keeping = async () => {
  const { backend, put, close } = await aVault()
  return { backend, write: (value) => put('acme', 'database', value.reveal()), close }
}
const inAws: Keeping = async () => {
  const { backend, put, close } = await anAws()
  return { backend, write: (value) => put('acme', 'database', value.reveal()), close }
}

let keysAndStore: KeysAndStore
beforeAll(async () => {
  keysAndStore = await startGround()
})
afterAll(async () => {
  await keysAndStore?.close()
})

/** An engine that can be killed at a point: then nothing of it happens any more, as of a process that is gone. */
const aWorld = async (
  place: RotatorPlace,
  given: {
    keptIn?: Keeping
    policy?: object
    rotator?: Partial<Pick<ChoosingRotator, 'login' | 'apply' | 'retire' | 'check'>>
  } = {},
) => {
  keysAndStore.empty()
  const clock = aClock()
  const { backend, write, close: closeBackend } = await (given.keptIn ?? embedded)(keysAndStore, clock)
  await write(place.current)
  const policy = policyOf(given.policy)
  const rotator = { ...place.rotator, ...given.rotator } as Rotator
  const records: { outcome: string; detail: { state?: string } }[] = []
  let engines = 0
  const engineThatDies = (point?: string) => {
    let died: () => void = () => undefined
    const death = new Promise<void>((resolve) => {
      died = resolve
    })
    const engine = createRotationEngine({
      rotations: keysAndStore.store.rotations,
      envelope: keysAndStore.envelope,
      backendOf: () => backend,
      rotatorOf: () => rotator,
      changed: () => undefined,
      isCheckedOut: () => Promise.resolve(true),
      clock,
      monotonic: () => clock.elapsed(),
      logger: quiet,
      owner: `engine-${(engines += 1)}`,
      audit: {
        append: (record) => {
          records.push(record as (typeof records)[number])
          return Promise.resolve()
        },
      },
      at: (reached) => {
        if (reached === point) {
          died()
          return new Promise(() => undefined)
        }
        return undefined
      },
    })
    return { engine, death }
  }
  const read = createRotatingSecrets({
    rotations: keysAndStore.store.rotations,
    backendOf: () => backend,
    readCached: ({ tenant, secret }) => backend.read(tenant, secret),
    rotatorOf: () => rotator,
    patience: 100,
  })
  const handedOut = async (): Promise<string> => rotator.login((await read(SECRET)).value)
  const schedulerWith = (engine: RotationEngine) =>
    new RotationScheduler({
      rotations: keysAndStore.store.rotations,
      engine,
      policies: () => [policy],
      secretsOf: () => Promise.resolve([SECRET]),
      targetOf: () => rotator.target,
      audit: { append: () => Promise.resolve() },
      clock,
      monotonic: () => clock.elapsed(),
      logger: quiet,
      shared: false,
      notify: () => Promise.resolve(),
    })
  const begin = (): Promise<Rotation> => schedulerWith(engineThatDies().engine).begin(SECRET, 'test')
  /** Lets an engine work on it until it is over, whatever time that takes. */
  const finish = async (id: string): Promise<Rotation> => {
    const { engine } = engineThatDies()
    for (let turn = 0; turn < 60; turn += 1) {
      const rotation = (await keysAndStore.store.rotations.list({}, 10)).find((each) => each.id === id)!
      if (rotation.endedAt !== null || rotation.state === 'stuck') return rotation
      clock.forward(Math.max(61_000, rotation.nextAt - clock.now()))
      await engine.advance(rotation, policy)
      expect(await handedOut()).toBe('works')
    }
    throw new Error('the rotation did not end')
  }
  return {
    keysAndStore,
    clock,
    backend,
    policy,
    rotator,
    records,
    engineThatDies,
    schedulerWith,
    handedOut,
    begin,
    finish,
    read,
    write,
    close: closeBackend,
  }
}

const stages = async (backend: StagedSecrets) =>
  Object.fromEntries(
    await Promise.all(
      (['pending', 'current', 'previous'] as const).map(async (stage) => [
        stage,
        (await backend.find('acme', 'database', stage))?.value,
      ]),
    ),
  )

const describeCrashes = (name: string, start: () => Promise<RotatorPlace>, keptIn: Keeping = embedded): void => {
  describe(`${name}: a rotation that is killed`, () => {
    let place: RotatorPlace
    let world: Awaited<ReturnType<typeof aWorld>>
    beforeEach(async () => {
      place = await start()
      world = await aWorld(place, { keptIn })
    })
    afterEach(async () => {
      await world?.close()
      await place?.close()
    })

    // What is written down after an act is all that a kill before the next one leaves: the model has both.
    for (const point of FORWARD_POINTS.filter((each) => each.startsWith('after'))) {
      it(`promise 7, threat 28: ${point}: what is handed out works at every moment, and it ends as if nothing had been`, async () => {
        const rotation = await world.begin()
        const { engine, death } = world.engineThatDies(point)
        const reached = (async () => {
          let found: Rotation | undefined = rotation
          for (let acts = 0; found !== undefined && found.endedAt === null; acts += 1) {
            if (acts > MAX_ACTS) throw new Error(`the rotation did not end: ${JSON.stringify(found)}`)
            if (found.state === 'grace') world.clock.forward(GRACE + 1)
            found = await engine.advance(found, world.policy)
          }
        })()
        await Promise.race([
          death,
          reached.then(() => {
            throw new Error(`the rotation ended without reaching: ${point}`)
          }),
        ])
        expect(await world.handedOut()).toBe('works')
        const ended = await world.finish(rotation.id)
        expect(ended).toMatchObject({ state: 'done', step: 'done' })
        expect(await world.handedOut()).toBe('works')
        expect(await place.rotator.login(place.current)).toBe('refused')
        const { pending, previous } = await stages(world.backend)
        expect([pending, previous]).toEqual([undefined, undefined])
      })
    }

    it('promise 7: when nobody is killed, begins once and ends once', async () => {
      const rotation = await world.begin()
      await expect(world.begin()).rejects.toMatchObject({ code: 'rotation_not_possible' })
      expect(await world.finish(rotation.id)).toMatchObject({ state: 'done' })
      expect(world.records.map(({ outcome }) => outcome)).toEqual(['done'])
    })

    it('promise 7: of two that take it on, one does', async () => {
      const rotation = await world.begin()
      const results = await Promise.all(
        Array.from({ length: 4 }, () => world.engineThatDies().engine.advance(rotation, world.policy)),
      )
      expect(results.filter((result) => result !== undefined)).toHaveLength(1)
      await world.finish(rotation.id)
      expect(await place.rotator.login(place.current)).toBe('refused')
    })
  })
}

describeCrashes('an OAuth client at a real oidc-provider', anOAuthClient)
describeCrashes('a static role of Vault', aVaultStaticRole)
describeCrashes('a webhook', aWebhook)
describeCrashes("Deputy's signing keys", ownKeys('signing-keys'))
describeCrashes("Deputy's key-encryption key", ownKeys('key-encryption-key'))
describeCrashes('the data key of a tenant', ownKeys('data-key.acme'))

const bin = findPostgres()
describe.skipIf(bin === undefined)('on a real Postgres', () => {
  let server: PostgresServer
  beforeAll(async () => {
    server = await startPostgres(bin!)
  })
  afterAll(async () => {
    await server?.close()
  })
  describeCrashes('two PostgreSQL roles in turn', () => aPostgresRole(server, 'alternating'))
  describeCrashes('one PostgreSQL role', () => aPostgresRole(server, 'single'))
})

describe.skipIf(!findRedis())('on a real Redis', () => {
  let server: RedisServer
  beforeAll(async () => {
    server = await startRedis(['save ""'])
  })
  afterAll(async () => {
    await server?.close()
  })
  describeCrashes('a Redis ACL user', () => aRedisUser(server))
  describeCrashes('a Redis ACL user whose password is kept in Vault', () => aRedisUser(server), inVault)
  describeCrashes('a Redis ACL user whose password is kept in AWS Secrets Manager', () => aRedisUser(server), inAws)

  describe('a rotation whose target misbehaves', () => {
    let place: RotatorPlace
    beforeEach(async () => {
      place = await aRedisUser(server)
    })
    afterEach(async () => {
      await place?.close()
    })
    const rotated = async (given: Parameters<typeof aWorld>[1]) => {
      const world = await aWorld(place, given)
      const ended = await world.finish((await world.begin()).id)
      return { world, ended }
    }

    it('promise 7, threat 28: that takes the change and does nothing is found out, and the old one stays', async () => {
      const { world, ended } = await rotated({ rotator: { apply: () => Promise.resolve() } })
      expect(ended).toMatchObject({ state: 'rolled_back', step: 'gone_back' })
      expect(world.records.at(-1)).toMatchObject({ outcome: 'failed', detail: { state: 'rolled_back' } })
      const { pending, current } = await stages(world.backend)
      expect([pending, current!.reveal()]).toEqual([undefined, place.current.reveal()])
      await world.close()
    })

    it('promise 7: that makes the change and answers with an error goes on', async () => {
      const { world, ended } = await rotated({
        rotator: {
          async apply(current, next) {
            await (place.rotator as ChoosingRotator).apply(current, next)
            throw new Error('500')
          },
        },
      })
      expect(ended).toMatchObject({ state: 'done' })
      expect(await place.rotator.login(place.current)).toBe('refused')
      await world.close()
    })

    it('promise 7: that cannot be asked is waited for: nothing is decided, and a person is called when that lasts', async () => {
      const world = await aWorld(place)
      const rotation = await world.begin()
      await place.cut()
      const { engine } = world.engineThatDies()
      let found: Rotation | undefined = rotation
      for (let turn = 0; turn < 30; turn += 1) {
        found = await engine.advance(found!, world.policy)
        expect(found).toMatchObject({ endedAt: null, step: 'planned', state: turn < 5 ? 'running' : 'stuck' })
        world.clock.forward(found!.nextAt - world.clock.now() + 1)
      }
      expect(found!.attempts).toBe(30)
      await world.close()
    })

    it('promise 7, threat 28: that still takes the old one after it was retired is not done, and somebody is called', async () => {
      const { world, ended } = await rotated({ rotator: { retire: () => Promise.resolve() } })
      expect(ended).toMatchObject({ state: 'stuck', problem: expect.stringContaining('old one') as string })
      expect(world.records.filter(({ detail }) => detail.state === 'stuck')).toHaveLength(1)
      expect((await stages(world.backend)).previous!.reveal()).toBe(place.current.reveal())
      await world.close()
    })

    it('that lacks the account is found out before anything is changed', async () => {
      const world = await aWorld(place, {
        rotator: { check: () => Promise.reject(new Error('the ACL user does not exist')) },
      })
      expect(await world.finish((await world.begin()).id)).toMatchObject({ state: 'rolled_back' })
      expect((await stages(world.backend)).pending).toBeUndefined()
      await world.close()
    })

    it('promise 7: is called for and left alone where the policy says so', async () => {
      const { world, ended } = await rotated({
        policy: { on_failure: { retry: 1, afterwards: 'page' } },
        rotator: { apply: () => Promise.resolve() },
      })
      expect(ended).toMatchObject({ state: 'stuck' })
      expect((await stages(world.backend)).pending).toBeDefined()
      expect(await world.handedOut()).toBe('works')
      // By hand: back to the old one, which works.
      const { engine } = world.engineThatDies()
      expect(await engine.rollBack(ended, world.policy, 'uid 0')).toMatchObject({ state: 'rolled_back' })
      expect((await stages(world.backend)).pending).toBeUndefined()
      await world.close()
    })

    for (const point of BACK_POINTS) {
      it(`promise 7: ${point}, a kill leaves the old one, and it goes back all the same`, async () => {
        const world = await aWorld(place, {
          policy: { on_failure: { retry: 0 } },
          rotator: {
            login: (value) =>
              value.reveal() === place.current.reveal() ? place.rotator.login(value) : Promise.resolve('refused'),
          },
        })
        const rotation = await world.begin()
        const { engine, death } = world.engineThatDies(point)
        void engine.advance(rotation, world.policy)
        await death
        expect(await world.handedOut()).toBe('works')
        expect(await world.finish(rotation.id)).toMatchObject({ state: 'rolled_back' })
        expect((await stages(world.backend)).pending).toBeUndefined()
        await world.close()
      })
    }

    it('promise 7: a clock that is set forward ends no grace, and one that is set back makes none longer', async () => {
      for (const by of [86_400_000, -86_400_000]) {
        await place.close()
        place = await aRedisUser(server)
        const world = await aWorld(place)
        const rotation = await world.begin()
        const { engine } = world.engineThatDies()
        const scheduler = world.schedulerWith(engine)
        await scheduler.tick()
        await scheduler.close()
        const inGrace = (await world.keysAndStore.store.rotations.open(SECRET))!
        expect(inGrace).toMatchObject({ id: rotation.id, state: 'grace' })
        world.clock.forward(GRACE / 2)
        world.clock.set(by)
        expect(await engine.advance(inGrace, world.policy)).toMatchObject({ state: 'grace' })
        expect([await place.rotator.login(place.current), await world.handedOut()]).toEqual(['works', 'works'])
        world.clock.forward(GRACE / 2 + 1)
        expect(
          await engine.advance((await world.keysAndStore.store.rotations.open(SECRET))!, world.policy),
        ).toMatchObject({
          state: 'done',
        })
        expect(await place.rotator.login(place.current)).toBe('refused')
        await world.close()
      }
    })

    it('promise 7: a Vault that goes back to an old snapshot in the middle locks nobody out; afterwards the next rotation puts it right', async () => {
      for (const restoredAfter of ['applying', 'promoting', 'the grace has begun', 'the end'] as const) {
        await place.close()
        place = await aRedisUser(server)
        const { backend, vault, put, close } = await aVault()
        const world = await aWorld(place, {
          keptIn: () => Promise.resolve({ backend, write: (value) => put('acme', 'database', value.reveal()), close }),
        })
        const restore = vault.snapshot()
        const rotation = await world.begin()
        if (restoredAfter === 'the end') {
          await world.finish(rotation.id)
          restore()
          // What it has now was ended, and nothing that works is left of it but the way to make another.
          expect(await world.handedOut()).toBe('refused')
          const { engine } = world.engineThatDies()
          let found: Rotation | undefined = await world.begin()
          for (let acts = 0; found !== undefined && found.endedAt === null; acts += 1) {
            if (acts > MAX_ACTS) throw new Error(`the rotation did not end: ${JSON.stringify(found)}`)
            if (found.state === 'grace') world.clock.forward(GRACE + 1)
            found = await engine.advance(found, world.policy)
          }
        } else {
          const { engine, death } = world.engineThatDies(
            restoredAfter === 'the grace has begun' ? undefined : `after ${restoredAfter}`,
          )
          await Promise.race([death, engine.advance(rotation, world.policy)])
          restore()
          expect(await world.handedOut()).toBe('works')
          // Where it had written down that the new one is handed out, only a person can say what is meant.
          expect((await world.finish(rotation.id)).state).toBe(
            restoredAfter === 'the grace has begun' ? 'stuck' : 'done',
          )
        }
        expect(await world.handedOut()).toBe('works')
        await world.close()
      }
    })

    it("a pending version of somebody else's is left alone", async () => {
      const world = await aWorld(place)
      await world.backend.stage('acme', 'database', new Secret('of a person'), 'ffffffffffffffffffffffffffffffff')
      const ended = await world.finish((await world.begin()).id)
      expect(ended).toMatchObject({ state: 'rolled_back' })
      expect((await stages(world.backend)).pending!.reveal()).toBe('of a person')
      expect(await world.handedOut()).toBe('works')
      await world.close()
    })

    it('promise 7: a secret that somebody has set by hand meanwhile is not touched any more', async () => {
      const world = await aWorld(place)
      const rotation = await world.begin()
      const { engine } = world.engineThatDies()
      const inGrace = await engine.advance(rotation, world.policy)
      expect(inGrace).toMatchObject({ state: 'grace' })
      await world.write(place.current)
      const ended = await world.finish(rotation.id)
      expect(ended.state).toBe('stuck')
      expect((await world.backend.read('acme', 'database')).value.reveal()).toBe(place.current.reveal())
      await world.close()
    })
  })
})
