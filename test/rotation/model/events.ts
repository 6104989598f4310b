/** What other people and machines do in between. */
import { carryOut, type Order } from './backends.ts'
import { BROKEN, currentOf, FOREIGN, NEW, OLD, plannedOf, type BackendKind, type World } from './world.ts'

export interface Event {
  readonly name: string
  /** Of the target: not between a login and what it decides. */
  readonly at: 'backend' | 'target' | 'wire'
  /** Changes the world. @returns false where that cannot happen now */
  readonly happen: (world: World, kind: BackendKind) => boolean
}

const setByPerson = (world: World, kind: BackendKind, value: string): void => {
  world.touched = true
  if (kind === 'kv') {
    world.kv.versions.push({ value, token: null, gone: false })
    return
  }
  const previous = world.stored.find(({ stages }) => stages.includes('previous'))
  const current = world.stored.find(({ stages }) => stages.includes('current'))
  if (previous !== undefined) previous.stages = previous.stages.filter((each) => each !== 'previous')
  if (current !== undefined) current.stages = [...current.stages.filter((each) => each !== 'current'), 'previous']
  const id =
    kind === 'aws'
      ? `person-${world.stored.length}`
      : String(1 + Math.max(0, ...world.stored.map((each) => Number(each.id))))
  world.stored.push({ id, value, token: kind === 'aws' ? id : null, stages: ['current'] })
}

const set =
  (value: string, works: boolean) =>
  (world: World, kind: BackendKind): boolean => {
    if (currentOf(kind, world) === value || (works && plannedOf(world) === value)) return false
    setByPerson(world, kind, value)
    if (works && !world.target.accepts.includes(value)) world.target.accepts.push(value)
    return true
  }

export const EVENTS: readonly Event[] = [
  { name: 'a person sets another value that works', at: 'backend', happen: set(FOREIGN, true) },
  { name: 'a person sets another value that does not work', at: 'backend', happen: set(BROKEN, false) },
  { name: 'a person sets the value before once more', at: 'backend', happen: set(OLD, false) },
  {
    name: 'a person writes another field of the entry',
    at: 'backend',
    happen({ kv }, kind) {
      const last = kv.versions.at(-1)
      if (kind !== 'kv' || last === undefined || last.gone) return false
      kv.versions.push({ ...last })
      return true
    },
  },
  {
    name: 'a person patches the value, and leaves the mark of the rotation',
    at: 'backend',
    happen(world, kind) {
      const last = world.kv.versions.at(-1)
      if (kind !== 'kv' || last === undefined || last.gone || last.value === FOREIGN || plannedOf(world) === FOREIGN)
        return false
      world.kv.versions.push({ ...last, value: FOREIGN })
      world.target.accepts = [...new Set([...world.target.accepts, FOREIGN])]
      world.touched = true
      return true
    },
  },
  {
    name: 'a person deletes the current version',
    at: 'backend',
    happen(world, kind) {
      if (currentOf(kind, world) === undefined) return false
      world.touched = true
      if (kind === 'kv') world.kv.versions.push({ ...world.kv.versions.pop()!, gone: true })
      else world.stored = []
      return true
    },
  },
  {
    name: 'all but the newest version are pruned',
    at: 'backend',
    happen(world, kind) {
      if (kind === 'kv') {
        if (world.kv.versions.length < 2) return false
        world.kv.pruned += world.kv.versions.length - 1
        world.kv.versions = world.kv.versions.slice(-1)
        return true
      }
      const kept = world.stored.filter(({ stages }) => stages.includes('current') || stages.includes('pending'))
      if (kept.length === world.stored.length) return false
      world.stored = kept
      return true
    },
  },
  {
    name: 'a person removes what is pending',
    at: 'backend',
    happen(world, kind) {
      if (kind === 'kv') {
        if (world.kv.pending === null) return false
        world.kv.pending = null
        return true
      }
      const pending = world.stored.find(({ stages }) => stages.includes('pending'))
      if (pending === undefined) return false
      // In the embedded store nothing but the rotation does that.
      if (kind === 'embedded') return false
      pending.stages = pending.stages.filter((each) => each !== 'pending')
      return true
    },
  },
  {
    name: 'the target loses the new one',
    at: 'target',
    happen(world) {
      if (!world.target.accepts.includes(NEW)) return false
      world.target.accepts = world.target.accepts.filter((each) => each !== NEW)
      world.touched = true
      return true
    },
  },
  {
    name: 'the target loses the old one',
    at: 'target',
    happen(world) {
      if (!world.target.accepts.includes(OLD)) return false
      world.target.accepts = world.target.accepts.filter((each) => each !== OLD)
      world.touched = true
      return true
    },
  },
  ...(['backendIs', 'targetIs'] as const).flatMap((what) =>
    (['there', 'refusing', 'away'] as const).map((state): Event => ({
      name: `${what} ${state}`,
      at: 'wire',
      happen(world) {
        if (world[what] === state) return false
        world[what] = state
        return true
      },
    })),
  ),
  {
    name: 'an order that was on its way arrives',
    at: 'backend',
    happen(world) {
      if (world.late === null || !['verified', 'promoted', 'going_back'].includes(world.row.step)) return false
      const order = world.late as Order
      world.late = null
      try {
        carryOut(world, order)
      } catch {
        // Refused by now.
      }
      return true
    },
  },
]
