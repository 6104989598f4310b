/**
 * A model of lease, epoch and acknowledgement, small enough that every state of it is looked at. `src/foundation/cluster/cluster-membership.ts`
 * names the same steps: renew, apply (with a renewal, or by a look when the store tells of a change), acknowledge, serve,
 * confirm.
 *
 * One node, one store, one revocation. More nodes change nothing: they share no state but the store's rows, one each, and
 * whoever revokes waits for every row by itself. Time is the store's clock, in ticks; every moment is kept as so many ticks
 * before or after now, and what lies too far back to matter is all the same, so that there are finitely many states and
 * no end of time. The node's clock is off by as much as the skew, in either direction, and may slide between the two. The
 * node takes a step or does not: one that does not is asleep. Each message may come late, after a later one, or never.
 *
 * The property (promise 4): from the moment that `confirm` is through, `serve` is not possible for what was revoked.
 */

/** What makes it safe. Each can be taken out, and then the property must fail: a check that cannot fail checks nothing. */
export interface Guards {
  /** serve: only before the lease ends by the node's clock. */
  readonly serveWithinLease: boolean
  /** renew: the node counts its lease from when it sent the renewal, not from when the answer came. */
  readonly countFromSending: boolean
  /** serve: the node stops earlier than the lease ends, by the skew. */
  readonly nodeAllowsForSkew: boolean
  /** confirm: whoever revokes waits longer than the lease runs, by the skew. */
  readonly revokerAllowsForSkew: boolean
  /** acknowledge: what was applied before the renewal was sent; else what its answer will bring. */
  readonly acknowledgeAppliedOnly: boolean
  /** renew: the store reads what has changed and writes the lease in one step that no change can come between. */
  readonly renewAtomically: boolean
  /** apply: changes are taken over before the new lease counts. */
  readonly applyBeforeLease: boolean
  /** apply: what a late answer does not know of is not forgotten. */
  readonly neverForget: boolean
  /** renew: a node whose clock is further off than the skew takes no lease. */
  readonly refuseWrongClock: boolean
}

export const ALL_GUARDS: Guards = {
  serveWithinLease: true,
  countFromSending: true,
  nodeAllowsForSkew: true,
  revokerAllowsForSkew: true,
  acknowledgeAppliedOnly: true,
  renewAtomically: true,
  applyBeforeLease: true,
  neverForget: true,
  refuseWrongClock: true,
}

const LEASE = 2
const SKEW = 1
/** Messages under way in each direction. */
const UNDER_WAY = 2
/** What is longer ago has ended every lease that it could begin. */
const LONG_AGO = -(LEASE + 3 * SKEW)

interface Request {
  readonly sent: number
  readonly acknowledged: number
  /** Only without `renewAtomically`: what the store had read. */ readonly read?: number
}
interface Answer {
  readonly sent: number
  readonly number: number
}

/** Moments are relative to the store's clock. */
interface State {
  /** The node's clock, less the store's. */
  readonly offset: number
  readonly applied: number
  /** By the node's clock. */
  readonly until: number
  /** Only without `applyBeforeLease`: what has come and was not applied yet. */
  readonly unapplied: number
  readonly requests: readonly Request[]
  readonly answers: readonly Answer[]
  /** The store: how many changes there are, and the node's row. */
  readonly changes: number
  readonly leaseUntil: number
  readonly seen: number
  readonly confirmed: boolean
}

const START: State = {
  offset: 0,
  applied: 0,
  until: LONG_AGO,
  unapplied: 0,
  requests: [],
  answers: [],
  changes: 0,
  leaseUntil: LONG_AGO,
  seen: 0,
  confirmed: false,
}

const without = <T>(list: readonly T[], index: number): T[] => list.filter((_, at) => at !== index)

/** The moments that a state has, and how many there are: from long ago to the end of a lease that begins now. */
const MOMENTS = 16

const momentOf = (moment: number): number => {
  const digit = moment - LONG_AGO
  if (digit < 0 || digit >= MOMENTS) throw new RangeError(`the moment ${moment} has no place in a key`)
  return digit
}
const requestOf = ({ sent, acknowledged, read }: Request): number =>
  1 + (momentOf(sent) * 2 + acknowledged) * 3 + (read === undefined ? 0 : read + 1)
const answerOf = ({ sent, number }: Answer): number => 1 + momentOf(sent) * 2 + number

/** Of at most two messages, which have no order: one number. */
const pairOf = (one: number, other: number, size: number): number => Math.max(one, other) * size + Math.min(one, other)

const REQUESTS = 1 + MOMENTS * 2 * 3
const ANSWERS = 1 + MOMENTS * 2

/** One number a state, below 2^53: a million states are looked up. */
const keyOf = (state: State): number => {
  const [one, two] = state.requests
  const [first, second] = state.answers
  const flags =
    state.applied | (state.unapplied << 1) | (state.changes << 2) | (state.seen << 3) | (Number(state.confirmed) << 4)
  let key = momentOf(state.offset)
  key = key * MOMENTS + momentOf(state.until)
  key = key * MOMENTS + momentOf(state.leaseUntil)
  key = key * 32 + flags
  key =
    key * REQUESTS * REQUESTS +
    pairOf(one === undefined ? 0 : requestOf(one), two === undefined ? 0 : requestOf(two), REQUESTS)
  return (
    key * ANSWERS * ANSWERS +
    pairOf(first === undefined ? 0 : answerOf(first), second === undefined ? 0 : answerOf(second), ANSWERS)
  )
}

/** serve: whether the node would hand out now what was revoked. */
export const canServe = (state: State, guards: Guards): boolean =>
  state.applied === 0 && (guards.serveWithinLease ? state.offset < state.until : state.until > LONG_AGO)

/** How far the node's clock may be off: a wrong clock is caught by the node, unless that guard is out. */
const offsets = (guards: Guards): readonly number[] =>
  guards.refuseWrongClock ? [-SKEW, 0, SKEW] : [-3 * SKEW, -SKEW, 0, SKEW]

function* nodeSteps(state: State, guards: Guards): Iterable<[string, State]> {
  if (state.requests.length < UNDER_WAY)
    yield ['renew', { ...state, requests: [...state.requests, { sent: state.offset, acknowledged: state.applied }] }]
  // Told of the change it applies it at any time: an answer that came late would bring what it knows already.
  if (state.applied < state.changes) yield ['look', { ...state, applied: state.changes }]
  for (const [index, answer] of state.answers.entries()) {
    const lease = {
      until: Math.max(
        state.until,
        (guards.countFromSending ? answer.sent : state.offset) + LEASE - (guards.nodeAllowsForSkew ? SKEW : 0),
      ),
    }
    const known = guards.neverForget ? Math.max(state.applied, answer.number) : answer.number
    const answers = without(state.answers, index)
    if (guards.applyBeforeLease) yield ['apply', { ...state, ...lease, answers, applied: known }]
    else yield ['take the lease', { ...state, ...lease, answers, unapplied: known }]
  }
  if (state.unapplied > state.applied) yield ['apply late', { ...state, applied: state.unapplied }]
}

function* storeSteps(state: State, guards: Guards): Iterable<[string, State]> {
  for (const [index, request] of state.requests.entries()) {
    if (!guards.renewAtomically && request.read === undefined) {
      yield [
        'read',
        {
          ...state,
          requests: state.requests.map((each, at) => (at === index ? { ...each, read: state.changes } : each)),
        },
      ]
      continue
    }
    if (state.answers.length === UNDER_WAY) continue
    const number = request.read ?? state.changes
    const seen = guards.acknowledgeAppliedOnly ? request.acknowledged : number
    yield [
      'grant',
      {
        ...state,
        requests: without(state.requests, index),
        answers: [...state.answers, { sent: request.sent, number }],
        leaseUntil: LEASE,
        seen,
      },
    ]
  }
}

function* lineSteps(state: State): Iterable<[string, State]> {
  for (const index of state.requests.keys())
    yield ['lose a renewal', { ...state, requests: without(state.requests, index) }]
  for (const index of state.answers.keys())
    yield ['lose an answer', { ...state, answers: without(state.answers, index) }]
}

function* revokerSteps(state: State, guards: Guards): Iterable<[string, State]> {
  if (state.changes === 0) {
    yield ['revoke', { ...state, changes: 1 }]
    return
  }
  const over = state.leaseUntil + (guards.revokerAllowsForSkew ? SKEW : 0) <= 0
  if (!state.confirmed && (state.seen >= 1 || over)) yield ['confirm', { ...state, confirmed: true }]
}

function* timeSteps(state: State, guards: Guards): Iterable<[string, State]> {
  const earlier = (moment: number): number => Math.max(LONG_AGO, moment - 1)
  const later = {
    ...state,
    until: earlier(state.until),
    leaseUntil: earlier(state.leaseUntil),
    requests: state.requests.map((request) => ({ ...request, sent: earlier(request.sent) })),
    answers: state.answers.map((answer) => ({ ...answer, sent: earlier(answer.sent) })),
  }
  for (const offset of offsets(guards)) yield [`tick (clock off by ${offset})`, { ...later, offset }]
}

export interface Exploration {
  readonly states: number
  readonly served: boolean
  /** The steps to a state that breaks the property. */ readonly counterexample: readonly string[] | undefined
}

/** A set of whole numbers from zero up to 2^53, without an object for each of a million. */
const createKeys = () => {
  const EMPTY = -1
  let [slots, mask, size] = [new Float64Array(1 << 16).fill(EMPTY), (1 << 16) - 1, 0]
  const slotOf = (key: number): number => {
    const high = Math.imul((key / 0x1_0000_0000) | 0, 0x9e37_79b1)
    const mixed = Math.imul((key | 0) ^ high, 0x85eb_ca6b)
    let slot = (mixed ^ (mixed >>> 15)) & mask
    while (slots[slot] !== EMPTY && slots[slot] !== key) slot = (slot + 1) & mask
    return slot
  }
  const grow = (): void => {
    const full = slots
    slots = new Float64Array(2 * full.length).fill(EMPTY)
    mask = slots.length - 1
    for (const key of full) if (key !== EMPTY) slots[slotOf(key)] = key
  }
  return {
    /** @returns whether it was not there before */
    add(key: number): boolean {
      const slot = slotOf(key)
      if (slots[slot] === key) return false
      slots[slot] = key
      size += 1
      if (2 * size > slots.length) grow()
      return true
    },
  }
}

/** Looks at every state that can be reached. */
export const explore = (guards: Guards): Exploration => {
  const came = createKeys()
  came.add(keyOf(START))
  /** How each state was come to: from which one, by which step. */
  const [from, by] = [[-1], ['start']]
  const pathTo = (index: number): string[] => {
    const path: string[] = []
    for (let at = index; at >= 0; at = from[at]!) path.unshift(by[at]!)
    return path
  }
  let frontier: [number, State][] = [[0, START]]
  let served = false
  while (frontier.length > 0) {
    const next: [number, State][] = []
    for (const [index, state] of frontier) {
      if (canServe(state, guards)) {
        served = true
        if (state.confirmed) return { states: by.length, served, counterexample: [...pathTo(index), 'serve'] }
      }
      for (const steps of [
        nodeSteps(state, guards),
        storeSteps(state, guards),
        lineSteps(state),
        revokerSteps(state, guards),
        timeSteps(state, guards),
      ])
        for (const [step, after] of steps) {
          if (!came.add(keyOf(after))) continue
          next.push([by.length, after])
          from.push(index)
          by.push(step)
        }
    }
    frontier = next
  }
  return { states: by.length, served, counterexample: undefined }
}
