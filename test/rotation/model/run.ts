/** Runs the real engine on a world, with one disturbance or several at places that a script names. */
import { rotationPolicySchema } from '../../../src/config/rotation-policy.ts'
import { Secret } from '../../../src/foundation/crypto/secret.ts'
import { DeputyError, refuse } from '../../../src/errors.ts'
import { isBack } from '../../../src/flows/rotation/decide.ts'
import { createRotationEngine, type RotationEngine } from '../../../src/flows/rotation/engine.ts'
import type { Rotator } from '../../../src/flows/rotation/rotator.ts'
import type { RotationStore } from '../../../src/foundation/store/records/rotations.ts'
import { BACKENDS, carryOut, plainEnvelope, unavailable, type Order } from './backends.ts'
import { EVENTS } from './events.ts'
import {
  copied,
  currentOf,
  ID,
  keyOf,
  NEW,
  OLD,
  plannedOf,
  type BackendKind,
  type TargetKind,
  type World,
} from './world.ts'

export interface Setting {
  readonly backend: BackendKind
  readonly target: TargetKind
}
/** `rollback` and `retry` are an admin's. */
export type Action = 'advance' | 'rollback' | 'retry'
/**
 * What happens at a call: a kill before or after it, a failure before or after, that it arrives later, or is
 * answered with yes and not done; or an event before it. */
export type Disturbance = 'kill before' | 'kill after' | 'fail' | 'lost' | 'late' | 'lie' | number
export type Script = readonly { readonly at: number; readonly what: Disturbance }[]

export interface Call {
  readonly at: number
  readonly key: string
  readonly choices: readonly Disturbance[]
}
export interface Run {
  readonly world: World
  readonly calls: readonly Call[]
  readonly violation: string | undefined
}

/** More than any way of the engine takes. */
const MAX_CALLS = 150

class Violation extends Error {}

export const POLICY = rotationPolicySchema.parse({
  rotation: 'model',
  owner: 'model',
  secrets: { name: 'database', backend: 'backend' },
  when: { every: '30d' },
  grace: '60s',
  ends_early: false,
  on_failure: { retry: 1 },
  how: { rotator: 'command', command: 'model' },
})

const quiet = { info() {}, warn() {}, error() {} } as never

/** Calls of the engine, one after the other, and what is done to them. */
class Course {
  readonly calls: Call[] = []
  violation: string | undefined
  #trace: string[] = []
  #killed = false
  readonly #setting: Setting
  readonly #script: Script
  /** From this call on is written down what else could happen. */
  readonly #branching: number
  #count = 0
  readonly world: World
  #died: () => void = () => undefined
  readonly death = new Promise<void>((resolve) => {
    this.#died = resolve
  })
  /** After a login, until an act has decided by it. */
  #hasAsked = false

  constructor(setting: Setting, world: World, script: Script, branching: number) {
    this.#branching = branching
    this.#setting = setting
    this.world = world
    this.#script = script
  }

  #check(holds: boolean, what: string): void {
    if (holds) return
    this.violation ??= what
    throw new Violation(what)
  }

  /** What a reader gets: where the target takes one at a time, whichever of the two it takes while a change is under way. */
  checkHandedOut(): void {
    const { world } = this
    if (world.touched || world.row.endedAt !== null) return
    const current = currentOf(this.#setting.backend, world)
    const works = current !== undefined && world.target.accepts.includes(current)
    const isChanging = this.#setting.target !== 'two' && world.target.accepts.includes(NEW)
    this.#check(works || isChanging, 'what is handed out does not work at the target')
  }

  #checkOrder(order: Order): void {
    const { world } = this
    const { backend } = this.#setting
    const current = currentOf(backend, world)
    if (order.what === 'target retire') {
      const [ended] = order.args as [string]
      this.#check(current !== ended, `ended ${ended}, which is handed out`)
      this.#check(
        current !== undefined && world.target.accepts.includes(current),
        `ended ${ended} while what is handed out (${current}) does not work`,
      )
    }
  }

  #checkPromotion(before: string | undefined, justThen: boolean): void {
    const { world } = this
    const now = currentOf(this.#setting.backend, world)
    // KV: a version that is deleted keeps its number, so that check-and-set does not see what happens at that very moment.
    if (now === before || (before === undefined && justThen && this.#setting.backend === 'kv')) return
    this.#check(before === plannedOf(world) || before === NEW, `overwrote ${before}, which a person has set`)
    this.#check(now !== undefined && world.target.accepts.includes(now), `promoted ${now}, which does not work`)
  }

  /** Nothing can come between the last reading and an ending, nor change the target between a login and what it decides. */
  #eventsAt({ what }: Order): number[] {
    if (what === 'target retire') return []
    return EVENTS.flatMap((event, index) =>
      (event.at === 'target' && this.#hasAsked && what !== 'target login') ||
      !event.happen(copied(this.world), this.#setting.backend)
        ? []
        : [index],
    )
  }

  async ask(order: Order, answer: (world: World) => unknown): Promise<unknown> {
    if (this.#killed) return new Promise(() => undefined)
    const { world } = this
    const isTarget = order.what.startsWith('target')
    const isRow = order.what.startsWith('row')
    const at = this.#count
    this.#count += 1
    if (at > MAX_CALLS) {
      this.violation ??= `goes round in circles: ${this.#trace.slice(-6).join(' | ')} at ${world.row.step}`
      return this.#die()
    }
    if (at >= this.#branching)
      this.calls.push({
        at,
        key: `${keyOf(world)} ${this.#trace.join('|')} ${order.what}`,
        choices: [
          // Before a reading it is as after the writing before.
          ...(order.writes ? (['kill before', 'kill after'] as const) : []),
          ...(isRow ? [] : (['fail'] as const)),
          ...(order.writes && !isRow ? (['lost'] as const) : []),
          // One that chooses says what it has chosen.
          ...(order.writes && isTarget && this.#setting.target !== 'asked' ? (['lie'] as const) : []),
          ...(order.promotes === true && world.late === null ? (['late'] as const) : []),
          ...this.#eventsAt(order),
        ],
      })
    const what = this.#script.find((each) => each.at === at)?.what
    if (typeof what === 'number') EVENTS[what]!.happen(world, this.#setting.backend)
    if (what === 'kill before' || what === 'late') {
      if (what === 'late') world.late = order
      return this.#die()
    }
    const away = isTarget ? new Error('away') : unavailable(this.#setting.backend)
    const mode = isTarget ? world.targetIs : world.backendIs
    if (!isRow && (what === 'fail' || mode === 'away' || (mode === 'refusing' && order.writes))) {
      this.#trace.push(`${order.what} failed`)
      throw away
    }
    this.#checkOrder(order)
    const before = order.promotes === true ? currentOf(this.#setting.backend, world) : undefined
    let result: unknown
    let thrown: unknown
    try {
      result = what === 'lie' ? NEW : answer(world)
    } catch (error) {
      thrown = error
    }
    if (order.promotes === true) this.#checkPromotion(before, typeof what === 'number')
    this.checkHandedOut()
    this.#hasAsked = order.what === 'target login' || (this.#hasAsked && !isRow && !order.writes)
    if (isRow) this.#trace = []
    else this.#trace.push(`${order.what} ${thrown === undefined ? JSON.stringify(result) : 'refused'}`)
    if (what === 'kill after') return this.#die()
    if (what === 'lost') throw away
    if (thrown !== undefined) throw thrown
    return result
  }

  /** From here on nothing of the engine happens any more, as of a process that is gone. */
  #die(): Promise<never> {
    this.#killed = true
    this.#died()
    return new Promise(() => undefined)
  }

  checkRow(from: World['row'], to: World['row'], sealed: unknown): void {
    this.#check(!isBack(from.step) || isBack(to.step), `went from ${from.step} to ${to.step}: forward again`)
    this.#check(
      sealed !== null || to.endedAt !== null || to.step === 'planned' || to.target === null,
      `lost what it keeps at ${to.step}`,
    )
    const { accepts } = this.world.target
    const planned = plannedOf(this.world)
    if (to.state === 'done')
      this.#check(planned === undefined || !accepts.includes(planned), 'done, and the old one works')
    if (to.state === 'rolled_back') {
      const current = currentOf(this.#setting.backend, this.world)
      this.#check(
        current === NEW || !accepts.includes(NEW) || current === undefined,
        'gone back, and the new one works',
      )
    }
    if (to.state === 'stuck') this.#check((to.problem ?? '') !== '', 'stuck without a sentence')
  }
}

const rotatorOf = (kind: TargetKind, course: Course): Rotator => {
  const ask = (what: string, writes: boolean, args: readonly string[], answer: (world: World) => unknown) =>
    course.ask({ what: `target ${what}`, writes, args }, answer)
  const common = {
    kind: 'command',
    target: 'model',
    supportsDualSecrets: kind === 'two',
    login: async (value: Secret) =>
      (await ask('login', false, [value.reveal()], ({ target }) => target.accepts.includes(value.reveal())))
        ? ('works' as const)
        : ('refused' as const),
    async retire(old: Secret) {
      await ask('retire', true, [old.reveal()], ({ target }) => {
        target.accepts = target.accepts.filter((each) => each !== old.reveal())
      })
    },
  }
  if (kind !== 'asked')
    return {
      ...common,
      next: () => new Secret(NEW),
      async apply(_current, next) {
        await ask('apply', true, [next.reveal()], ({ target }) => {
          const others = target.accepts.filter((each) => each !== next.reveal() && (kind === 'two' || each !== OLD))
          target.accepts = [...others, next.reveal()]
        })
      },
    }
  return {
    ...common,
    retire: () => Promise.resolve(),
    generatedByTarget: true,
    known: async () =>
      new Secret(String(await ask('known', false, [], ({ target }) => (target.accepts.includes(NEW) ? NEW : OLD)))),
    async apply(known) {
      const value = await ask('apply', true, [], ({ target }) => {
        const right = target.accepts.includes(NEW) ? NEW : OLD
        if (known.some((each) => each.reveal() === right))
          target.accepts = [...target.accepts.filter((each) => each !== OLD), NEW]
        return NEW
      })
      return new Secret(String(value))
    },
  }
}

const storeOf = (on: () => Course): Pick<RotationStore, 'update' | 'sealedOf'> => ({
  async update(rotation, sealed) {
    const course = on()
    const result = await course.ask({ what: 'row update', writes: true, args: [] }, (world) => {
      if (rotation.revision !== world.row.revision) return refuse('conflict', { what: 'rotation' })
      const before = world.row
      world.row = { ...rotation, revision: rotation.revision + 1 }
      course.checkRow(before, world.row, sealed === undefined ? world.sealed : sealed)
      if (sealed !== undefined) world.sealed = sealed === null ? null : Buffer.from(sealed).toString()
      return world.row
    })
    if (result instanceof DeputyError) throw result
    return result as World['row']
  },
  sealedOf() {
    const { sealed } = on().world
    return Promise.resolve(sealed === null ? null : Buffer.from(sealed))
  },
})

/** Lets the time pass until a rotation is due, and whoever had claimed it is surely gone. */
const pass = (world: World): void => {
  const { row } = world
  world.now =
    Math.max(world.now, row.nextAt, row.owner?.until ?? 0, row.state === 'grace' ? (row.graceUntil ?? 0) : 0) + 1
}

/** An engine, and the course that it is on. */
const engines = new Map<string, { engine: RotationEngine; course: Course }>()
const engineOn = (course: Course, { backend: kind, target }: Setting): RotationEngine => {
  const name = `${kind} ${target}`
  const known = engines.get(name)
  if (known !== undefined) {
    known.course = course
    return known.engine
  }
  // What a run that was killed has left never goes on, so that nothing of it meets another course.
  const made = { course } as { engine: RotationEngine; course: Course }
  const clock = { now: () => made.course.world.now }
  const engine = createRotationEngine({
    rotations: storeOf(() => made.course) as RotationStore,
    envelope: plainEnvelope,
    backendOf: () => {
      const { course: on } = made
      return BACKENDS[kind]((order) => on.ask(order, () => carryOut(on.world, order)))
    },
    rotatorOf: () => rotatorOf(target, made.course),
    isCheckedOut: () => Promise.resolve(false),
    changed: () => undefined,
    audit: { append: () => Promise.resolve() },
    clock,
    monotonic: clock.now,
    logger: quiet,
    owner: 'model',
  })
  made.engine = engine
  engines.set(name, made)
  return engine
}

export const run = async (
  setting: Setting,
  from: World,
  action: Action,
  script: Script = [],
  branching = Infinity,
): Promise<Run> => {
  const world = copied(from)
  if (action === 'advance') pass(world)
  const course = new Course(setting, world, script, branching)
  const engine = engineOn(course, setting)
  try {
    const { row } = world
    const work =
      action === 'advance'
        ? engine.advance(row, POLICY)
        : action === 'rollback'
          ? engine.rollBack(row, POLICY, 'an admin')
          : engine.retry(row)
    await Promise.race([work, course.death])
  } catch (error) {
    // An admin is told no; a store that cannot be written to is as a kill.
    if (!(error instanceof DeputyError)) course.violation ??= String((error as Error).stack)
  }
  return { world, calls: course.calls, violation: course.violation }
}

export const startOf = ({ backend, target }: Setting, left: number): World => ({
  row: {
    tenant: 'acme',
    backend: 'backend',
    secret: 'database',
    id: ID,
    policy: 'model',
    rotator: 'command',
    target: null,
    reason: 'model',
    step: 'planned',
    state: 'running',
    oldVersion: null,
    newVersion: null,
    problem: null,
    turnedBack: null,
    attempts: 0,
    nextAt: 0,
    graceUntil: null,
    startedAt: 0,
    endedAt: null,
    owner: null,
    revision: 0,
  },
  sealed: null,
  kv: { versions: backend === 'kv' ? [{ value: OLD, token: null, gone: false }] : [], pruned: 0, pending: null },
  stored:
    backend === 'kv'
      ? []
      : [
          {
            id: backend === 'aws' ? 'first' : '1',
            value: OLD,
            token: backend === 'aws' ? 'first' : null,
            stages: ['current'],
          },
        ],
  target: { accepts: target === 'asked' ? [OLD] : [OLD] },
  backendIs: 'there',
  targetIs: 'there',
  now: 1,
  late: null,
  left,
  touched: false,
})
