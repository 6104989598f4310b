import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { rotationPolicySchema } from '../../src/config/rotation-policy.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { refuse } from '../../src/errors.ts'
import { silentLogger } from '../../src/foundation/telemetry/logger.ts'
import { createRotationEngine } from '../../src/flows/rotation/engine.ts'
import type { ChoosingRotator } from '../../src/flows/rotation/rotator.ts'
import { RotationScheduler } from '../../src/flows/rotation/scheduler.ts'
import type { StagedSecrets } from '../../src/credentials/secret/backend.ts'
import type { Rotation } from '../../src/foundation/store/records/rotations.ts'
import { startGround, type KeysAndStore } from '../support/keyring.ts'
import { aClock } from '../support/snapshot.ts'
import type { RotatorPlace } from './rotator.ts'

/** A backend in which other people write as well. */
export interface SharedBackend {
  readonly backend: StagedSecrets
  /** A person stores a value by the means of the backend itself. */
  put(tenant: string, name: string, value: string): Promise<void>
  /** A person writes another field of the entry, or patches the value and leaves all else; where the backend has fields. */
  patch?(tenant: string, name: string, fields: Readonly<Record<string, string>>): Promise<void>
  /** From now on the backend rotates it by itself, where it can. */
  rotateElsewhere?(tenant: string, name: string): Promise<void>
  /** From now on the backend keeps one version; where it prunes. */
  keepOne?(tenant: string, name: string): Promise<void>
  close(): Promise<void>
}

const NAME = ['acme', 'database'] as const
const SECRET = { tenant: 'acme', backend: 'vault', secret: 'database' }
const GRACE = 60_000
const TURNS = 12

/** An engine on a backend that refuses some of what it is asked. */
const aWorld = async (place: RotatorPlace, shared: SharedBackend) => {
  const keysAndStore: KeysAndStore = await startGround()
  const clock = aClock()
  const refused = new Set<'promote' | 'discard' | 'retire'>()
  const guarded = (act: 'promote' | 'discard' | 'retire'): void => {
    if (refused.has(act)) throw refuse('secret_backend_refused', { backend: 'vault', problem: `${act} is not allowed` })
  }
  const { backend: real } = shared
  const backend: StagedSecrets = {
    read: (...args) => real.read(...args),
    find: (...args) => real.find(...args),
    expectRotatable: async (...args) => real.expectRotatable?.(...args),
    stage: (...args) => real.stage(...args),
    promote: async (...args) => {
      guarded('promote')
      await real.promote(...args)
    },
    discard: async (...args) => {
      guarded('discard')
      await real.discard(...args)
    },
    retire: async (...args) => {
      guarded('retire')
      await real.retire(...args)
    },
  }
  const policy = rotationPolicySchema.parse({
    rotation: 'database',
    owner: 'data@example.com',
    secrets: { name: 'database', backend: 'vault' },
    when: { every: '30d' },
    grace: `${GRACE}ms`,
    on_failure: { retry: 1 },
    how: { rotator: 'redis', host: '127.0.0.1', user: 'x', admin: { secret: 'admin' } },
  })
  const engine = createRotationEngine({
    rotations: keysAndStore.store.rotations,
    envelope: keysAndStore.envelope,
    backendOf: () => backend,
    rotatorOf: () => place.rotator,
    changed: () => undefined,
    isCheckedOut: () => Promise.resolve(false),
    clock,
    monotonic: () => clock.elapsed(),
    logger: silentLogger,
    owner: 'engine',
    audit: { append: () => Promise.resolve() },
  })
  const scheduler = new RotationScheduler({
    rotations: keysAndStore.store.rotations,
    engine,
    policies: () => [policy],
    secretsOf: () => Promise.resolve([SECRET]),
    targetOf: () => place.rotator.target,
    audit: { append: () => Promise.resolve() },
    clock,
    monotonic: () => clock.elapsed(),
    logger: silentLogger,
    shared: false,
    notify: () => Promise.resolve(),
  })
  await shared.put(...NAME, place.current.reveal())
  const login = (value: Secret) => place.rotator.login(value)
  const { id } = await scheduler.begin(SECRET, 'test')
  const find = async (): Promise<Rotation> =>
    (await keysAndStore.store.rotations.list({}, 10)).find((each) => each.id === id)!
  const current = async (): Promise<Secret> => (await real.read(...NAME)).value
  /** Goes on until it says that it waits, has ended, or needs a person; what is handed out works all the while. */
  const goOn = async (until: (rotation: Rotation) => boolean = () => false): Promise<Rotation> => {
    for (let turn = 0; turn < TURNS; turn += 1) {
      const rotation = await find()
      if (rotation.endedAt !== null || rotation.state === 'stuck' || until(rotation)) return rotation
      clock.forward(Math.max(0, rotation.nextAt - clock.now(), (rotation.owner?.until ?? 0) - clock.now()) + 1)
      await engine.advance(rotation, policy)
      expect(await login(await current())).toBe('works')
    }
    return find()
  }
  return {
    refused,
    login,
    find,
    current,
    goOn,
    async retry(): Promise<Rotation> {
      const waiting = await engine.retry(await find())
      return (await engine.advance(waiting, policy)) ?? find()
    },
    rollBack: async () => engine.rollBack(await find(), policy, 'an admin'),
    inGrace: () => goOn(({ state }) => state === 'grace'),
    close: () => keysAndStore.close(),
  }
}

/** What a person sets: for the account of the current one, and the target accepts it. */
const OF_A_PERSON = 'of-a-person'
const valueOfAPerson = (current: Secret): Secret =>
  new Secret(JSON.stringify({ ...(JSON.parse(current.reveal()) as object), password: OF_A_PERSON }))

/** What a rotation does when its backend refuses, forgets, or is written to by others, at a target that is real. */
export const describeDisturbedRotation = (
  name: string,
  startTarget: () => Promise<RotatorPlace>,
  startBackend: () => Promise<SharedBackend>,
): void => {
  describe(`${name}: a rotation among others`, () => {
    let place: RotatorPlace
    let shared: SharedBackend
    let world: Awaited<ReturnType<typeof aWorld>>
    beforeEach(async () => {
      place = await startTarget()
      shared = await startBackend()
      world = await aWorld(place, shared)
    })
    afterEach(async () => {
      await world?.close()
      await shared?.close()
      await place?.close()
    })
    const setByPerson = async (): Promise<Secret> => {
      const value = valueOfAPerson(place.current)
      await (place.rotator as ChoosingRotator).apply(undefined, value)
      await shared.put(...NAME, value.reveal())
      return value
    }
    const isDone = async (ended: Rotation): Promise<void> => {
      expect(ended).toMatchObject({ state: 'done', step: 'done', problem: null })
      expect(await world.login(place.current)).toBe('refused')
      expect(await world.login(await world.current())).toBe('works')
    }

    it('promise 7: undisturbed, ends with the old one refused and forgotten', async () => {
      await isDone(await world.goOn())
      expect(await shared.backend.find(...NAME, 'previous')).toBeUndefined()
    })

    it('fault 41: done means that the old one was refused, also where another field was written during the grace', async (context) => {
      if (shared.patch === undefined) {
        context.skip()
        return
      }
      await world.inGrace()
      await shared.patch(...NAME, { owner: 'data' })
      await shared.patch(...NAME, { owner: 'sales' })
      await isDone(await world.goOn())
    })

    it('fault 41: done means that the old one was refused, also where the backend keeps one version', async (context) => {
      if (shared.keepOne === undefined) {
        context.skip()
        return
      }
      await shared.keepOne(...NAME)
      await isDone(await world.goOn())
    })

    it('fault 89: a promotion that is refused turns it back, and once it is allowed nothing leads forward', async () => {
      world.refused.add('promote')
      world.refused.add('discard')
      const stuck = await world.goOn()
      expect(stuck).toMatchObject({ state: 'stuck', step: 'new_ended' })
      expect(stuck.problem).toMatch(/not allowed/)
      world.refused.clear()
      expect(await world.retry()).toMatchObject({ state: 'rolled_back', step: 'gone_back' })
      expect((await world.current()).reveal()).toBe(place.current.reveal())
      expect(await world.login(place.current)).toBe('works')
      expect(await shared.backend.find(...NAME, 'pending')).toBeUndefined()
    })

    it('fault 100: what its backend rotates itself is not rotated, and says so; the target is left as it is', async (context) => {
      if (shared.rotateElsewhere === undefined) {
        context.skip()
        return
      }
      await shared.rotateElsewhere(...NAME)
      const ended = await world.goOn()
      expect(ended).toMatchObject({
        state: 'rolled_back',
        problem: expect.stringMatching(/rotated by AWS itself/) as string,
      })
      expect(await world.login(place.current)).toBe('works')
      expect((await world.current()).reveal()).toBe(place.current.reveal())
      expect(await shared.backend.find(...NAME, 'pending')).toBeUndefined()
    })

    it('fault 89: an order to roll back leads back, however often the backend refuses', async () => {
      world.refused.add('promote')
      await world.goOn(({ step, attempts }) => step === 'verified' && attempts > 0)
      world.refused.add('discard')
      expect(await world.rollBack()).toMatchObject({ state: 'going_back', step: 'new_ended', endedAt: null })
      world.refused.delete('promote')
      expect(await world.goOn()).toMatchObject({ state: 'stuck', step: 'new_ended' })
      expect(await world.login(place.current)).toBe('works')
      world.refused.clear()
      expect(await world.retry()).toMatchObject({ state: 'rolled_back', problem: 'rolled back by an admin' })
      expect((await world.current()).reveal()).toBe(place.current.reveal())
    })

    it('fault 91: a value that a person sets before the promotion calls for a person, who may have it rolled back', async () => {
      world.refused.add('promote')
      await world.goOn(({ step, attempts }) => step === 'verified' && attempts > 0)
      world.refused.clear()
      const theirs = await setByPerson()
      const stuck = await world.goOn()
      expect(stuck).toMatchObject({ state: 'stuck', step: 'verified' })
      expect(stuck.problem).toMatch(/another party has changed the secret/)
      expect((await world.current()).reveal()).toBe(theirs.reveal())
      expect(await world.rollBack()).toMatchObject({ state: 'rolled_back' })
      expect((await world.current()).reveal()).toBe(theirs.reveal())
      expect(await world.login(theirs)).toBe('works')
    })

    it('fault 91: a value that a person sets during the grace calls for a person, and is never ended or overwritten', async () => {
      await world.inGrace()
      const theirs = await setByPerson()
      const stuck = await world.goOn()
      expect(stuck).toMatchObject({ state: 'stuck', step: 'promoted' })
      expect(stuck.problem).toMatch(/another party has changed the secret/)
      expect((await world.current()).reveal()).toBe(theirs.reveal())
      expect(await world.login(theirs)).toBe('works')
      expect(await world.retry()).toMatchObject({ state: 'stuck' })
    })
  })
}
