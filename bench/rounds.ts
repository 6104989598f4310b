/** Several servers measured by one client, in turn and several times, so that all of them see the same machine. */
import { load, type Measured } from './load.ts'
import { addCpu, cpuBetween, cpuOf, totalOf, type Cpu } from './usage.ts'

export interface Side {
  readonly name: string
  readonly to: { readonly origin: string; readonly socketPath?: string }
  readonly path: string
  readonly pid: number
  /** The form of a request; called for each. */
  readonly body: () => string
}

/** What one server did in all rounds. */
export interface Outcome {
  /** Of the middle round. */
  readonly perSecond: number
  readonly p50: number
  readonly p99: number
  readonly rounds: readonly Measured[]
  readonly requests: number
  readonly failed: number
  /** Microseconds on a processor for each request. */
  readonly cpu: Cpu & { readonly total: number }
}

export const middle = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN

const toOutcome = (rounds: readonly Measured[], used: Cpu): Outcome => {
  const requests = rounds.reduce((sum, round) => sum + round.requests, 0)
  const each = (seconds: number): number => (seconds / requests) * 1e6
  return {
    perSecond: middle(rounds.map(({ perSecond }) => perSecond)),
    p50: middle(rounds.map(({ p50 }) => p50)),
    p99: middle(rounds.map(({ p99 }) => p99)),
    rounds,
    requests,
    failed: rounds.reduce((sum, round) => sum + round.failed, 0),
    cpu: { main: each(used.main), workers: each(used.workers), rest: each(used.rest), total: each(totalOf(used)) },
  }
}

/** Measures each side in each round. @param options.seconds of each side in each round */
export const inTurn = async <Name extends string>(
  sides: Readonly<Record<Name, Side>>,
  options: { readonly rounds: number; readonly seconds: number; readonly connections: number },
): Promise<Record<Name, Outcome>> => {
  const names = Object.keys(sides) as Name[]
  const rounds = new Map(names.map((name) => [name, [] as Measured[]]))
  const used = new Map<Name, Cpu>(names.map((name) => [name, { main: 0, workers: 0, rest: 0 }]))
  for (let round = 0; round < options.rounds; round += 1)
    // The other way round each time: what comes first in a round would always be the one that follows a pause.
    for (const name of round % 2 === 0 ? names : names.toReversed()) {
      const { to, path, body, pid } = sides[name]
      const before = await cpuOf(pid)
      rounds.get(name)!.push(await load(to, path, body, options.seconds, { connections: options.connections }))
      used.set(name, addCpu(used.get(name)!, cpuBetween(before, await cpuOf(pid))))
    }
  return Object.fromEntries(names.map((name) => [name, toOutcome(rounds.get(name)!, used.get(name)!)])) as Record<
    Name,
    Outcome
  >
}

/** The middle of the ratios of each round: what another program takes from one side it takes from the other as well. */
export const ratio = (a: Outcome, b: Outcome, of: 'perSecond' | 'p99'): number =>
  middle(a.rounds.map((round, at) => round[of] / b.rounds[at]![of]))

export const rowOf = (name: string, { perSecond, p50, p99, failed, cpu }: Outcome): string =>
  [
    name.padEnd(34),
    `${String(Math.round(perSecond)).padStart(6)}/s`,
    `p50 ${p50.toFixed(2).padStart(6)} ms`,
    `p99 ${p99.toFixed(2).padStart(6)} ms`,
    `failed ${failed}`,
    `CPU ${cpu.total.toFixed(0).padStart(4)} us: main ${cpu.main.toFixed(0)}, workers ${cpu.workers.toFixed(0)}, rest ${cpu.rest.toFixed(0)}`,
  ].join('  ')
