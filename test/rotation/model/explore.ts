/** Walks through everything that can happen to a rotation, with so many disturbances. */
import { EVENTS } from './events.ts'
import { run, startOf, type Action, type Disturbance, type Script, type Setting } from './run.ts'
import { copied, keyOf, type World } from './world.ts'

export interface Report {
  /** Different states of store, backend and target between two calls of the engine. */
  readonly states: number
  /** Runs of the engine, each with another order of events. */
  readonly interleavings: number
  readonly ends: Readonly<Record<string, number>>
  readonly violations: readonly string[]
}

const ACTIONS: readonly Action[] = ['advance', 'rollback', 'retry']
/** So many turns of an undisturbed engine are enough for anything. */
const TURNS = 12

const named = (what: Disturbance): string => (typeof what === 'number' ? EVENTS[what]!.name : what)

interface Task {
  readonly from: World
  readonly action: Action
  readonly script: Script
  readonly history: readonly string[]
}

export const explore = async (setting: Setting, disturbances: number): Promise<Report> => {
  const seen = new Set<string>()
  const boundaries = new Set<string>()
  const settled = new Set<string>()
  const ends: Record<string, number> = {}
  const violations: string[] = []
  const tasks: Task[] = []
  let interleavings = 0

  const fail = (what: string, history: readonly string[]): void => {
    violations.push([what, ...history].join('\n    '))
  }

  /** For ever as it is: it ends, or it is stuck with a sentence; and once everything is there again it ends, unless a person has to act. */
  const settle = async (from: World, history: readonly string[]): Promise<void> => {
    const key = keyOf({ ...from, left: 0 })
    if (settled.has(key)) return
    settled.add(key)
    let world = copied(from)
    for (let turn = 0; turn < TURNS && world.row.endedAt === null; turn += 1) {
      const result = await run(setting, world, 'advance')
      interleavings += 1
      if (result.violation !== undefined) {
        fail(result.violation, [...history, 'then undisturbed'])
        return
      }
      world = result.world
    }
    const { state, endedAt, problem, step } = world.row
    if (endedAt === null && (state !== 'stuck' || problem === null)) {
      fail(`ends in ${state} after ${step}: ${problem}`, history)
      return
    }
    const name = endedAt === null ? `stuck: ${problem!.split('; ').at(-1)!.split(':')[0]}` : state
    ends[name] = (ends[name] ?? 0) + 1
    if (endedAt !== null || world.touched) return
    world.backendIs = 'there'
    world.targetIs = 'there'
    for (let turn = 0; turn < TURNS && world.row.endedAt === null; turn += 1) {
      const result = await run(setting, world, 'advance')
      if (result.violation !== undefined) {
        fail(result.violation, [...history, 'then healed'])
        return
      }
      world = result.world
    }
    if (world.row.endedAt === null) fail(`is stuck although all is there again: ${world.row.problem}`, history)
  }

  const arrive = async (world: World, history: readonly string[]): Promise<void> => {
    const key = keyOf(world)
    if (boundaries.has(key)) return
    boundaries.add(key)
    seen.add(key)
    if (world.row.endedAt === null) {
      await settle(world, history)
      tasks.push({ from: world, action: 'advance', script: [], history })
      if (world.left > 0)
        for (const action of ACTIONS.slice(1)) {
          const disturbed = { ...copied(world), left: world.left - 1 }
          tasks.push({ from: disturbed, action, script: [], history: [...history, `an admin: ${action}`] })
        }
    } else ends[world.row.state] = (ends[world.row.state] ?? 0) + 1
  }

  await arrive(startOf(setting, disturbances), [])
  for (let task = tasks.pop(); task !== undefined && violations.length < 5; task = tasks.pop()) {
    const { from, action, script, history } = task
    const left = from.left - script.length
    const branching = left > 0 ? (script.at(-1)?.at ?? -1) + 1 : Infinity
    const { world, calls, violation } = await run(setting, from, action, script, branching)
    interleavings += 1
    if (violation !== undefined) {
      fail(violation, history)
      continue
    }
    world.left = left
    for (const { at, key, choices } of calls) {
      const branch = `${left} ${key}`
      if (seen.has(branch)) continue
      seen.add(branch)
      for (const what of choices) {
        const words = `${action}, call ${at} at ${from.row.step}: ${named(what)}`
        tasks.push({ from, action, script: [...script, { at, what }], history: [...history, words] })
      }
    }
    await arrive(world, history)
  }
  return { states: seen.size, interleavings, ends, violations }
}
