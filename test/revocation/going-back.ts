/**
 * A model of a store that goes back, small enough that every state of it is looked at. `model.ts` has the lease and its time; this one has
 * the history: two nodes, a store, two revocations, and one loss of the last n commits, whatever they were (a standby that was promoted, a
 * copy that was restored). `src/foundation/cluster/cluster-membership.ts` names the same steps: renew, apply, acknowledge, serve, confirm, look again.
 *
 * There is no time in it: a lease runs until its node is cut off for good, and a node that is cut off does not serve. What time does
 * is one step: leases that the lost server granted end (`settle`), and confirmations wait for it.
 *
 * A token is the commit that drew it: no two commits have the same one, and a number is a place in the list of commits.
 *
 * The properties (promise 4): a confirmed revocation that the store has is known by every node that may serve; and when each node
 * has spoken with the store again, so is one that the store had lost, as long as a node remembers it. In between a node that
 * was away while it was confirmed may not know it: `lease.ts` lets others look before it gives such a node a lease.
 */

/** What makes it safe. Each can be taken out, and then the property must fail. */
export interface Guards {
  /** renew, acknowledge: a number counts with its token and its server; a node whose past is another one has no lease, and looks again. */
  readonly nameHistory: boolean
  /** look again: what the node knows and the store does not is written again. */
  readonly writeAgain: boolean
  /** look again: the node reads everything anew. */
  readonly readAnew: boolean
  /** confirm: waits until leases of a server before this one are over. */
  readonly waitForLostLeases: boolean
  /** confirm: a change that is lost meanwhile is written again. */
  readonly confirmInHistory: boolean
}

export const ALL_GUARDS: Guards = {
  nameHistory: true,
  writeAgain: true,
  readAnew: true,
  waitForLostLeases: true,
  confirmInHistory: true,
}

type RevocationName = 'x' | 'y'
const REVOCATIONS = ['x', 'y'] as const

/** A commit of a change: its number is its place, its token is drawn once. */
interface Commit {
  readonly token: number
  readonly revocation: RevocationName
}

interface Row {
  readonly leased: boolean
  readonly number: number
  readonly token: number
}

interface Node {
  /** Whether it may serve. */
  readonly leased: boolean
  readonly knows: readonly RevocationName[]
  /** Whether it has spoken with the server that came after the loss. */
  readonly sawOther: boolean
  readonly number: number
  readonly token: number
}

/** A revoker at one of the nodes. */
interface Order {
  readonly state: 'none' | 'written' | 'confirmed'
  readonly by: number
  readonly number: number
  readonly token: number
}

interface State {
  readonly commits: readonly Commit[]
  readonly rows: readonly Row[]
  readonly nodes: readonly Node[]
  readonly orders: Readonly<Record<RevocationName, Order>>
  readonly drawn: number
  /** The store has gone back, and leases of before may run that it does not know. */
  readonly wentBack: boolean
  readonly settled: boolean
  /** What the store was at earlier moments: commits that are lost, and rows. */
  readonly earlier: readonly { readonly commits: number; readonly rows: readonly Row[] }[]
}

const NODES = [0, 1] as const
const GENESIS = -1
const NOBODY: Order = { state: 'none', by: 0, number: 0, token: GENESIS }

const NONE: readonly Row[] = NODES.map(() => ({ leased: false, number: 0, token: GENESIS }))
const LEASED: readonly Row[] = NODES.map(() => ({ leased: true, number: 0, token: GENESIS }))

/** Both nodes have a lease, and nothing has been revoked. */
const START: State = {
  commits: [],
  rows: LEASED,
  nodes: NODES.map(() => ({ leased: true, knows: [], sawOther: false, number: 0, token: GENESIS })),
  orders: { x: NOBODY, y: NOBODY },
  drawn: 0,
  wentBack: false,
  settled: true,
  earlier: [
    { commits: 0, rows: NONE },
    { commits: 0, rows: LEASED },
  ],
}

const tokenAt = (commits: readonly Commit[], number: number): number => commits[number - 1]?.token ?? GENESIS
const isIn = (commits: readonly Commit[], { number, token }: { number: number; token: number }): boolean =>
  number <= commits.length && tokenAt(commits, number) === token
const replaced = <T>(list: readonly T[], at: number, value: T): T[] => list.map((each, i) => (i === at ? value : each))
const union = (...lists: readonly (readonly RevocationName[])[]): RevocationName[] =>
  REVOCATIONS.filter((name) => lists.some((list) => list.includes(name)))

/** What the store is now, kept so that it can go back to it. */
const remembered = (state: State): State =>
  state.wentBack
    ? state
    : { ...state, earlier: [...state.earlier, { commits: state.commits.length, rows: state.rows }] }

const commit = (state: State, revocation: RevocationName): State => ({
  ...state,
  commits: [...state.commits, { token: state.drawn, revocation }],
  drawn: state.drawn + 1,
})

/** renew, apply and acknowledge in one: the model of time has what may come between them. */
const renew = (state: State, at: number, guards: Guards): State => {
  const node = state.nodes[at]!
  const { commits } = state
  const isForeign = !isIn(commits, node) || node.sawOther !== state.wentBack
  if (isForeign && guards.nameHistory) return lookAgain(state, at, guards)
  const fresh = commits.slice(node.number).map(({ revocation }) => revocation)
  const number = Math.max(node.number, commits.length)
  return {
    ...remembered(state),
    rows: replaced(state.rows, at, { leased: true, number: node.number, token: node.token }),
    nodes: replaced(state.nodes, at, {
      leased: true,
      sawOther: state.wentBack,
      knows: union(node.knows, fresh),
      number,
      token: number === commits.length ? tokenAt(commits, number) : node.token,
    }),
  }
}

/** Told of a change, a node applies it before it renews: only what follows on its own past, at the server that it knows. */
const look = (state: State, at: number, guards: Guards): State => {
  const node = state.nodes[at]!
  const { commits } = state
  const isForeign = !isIn(commits, node) || node.sawOther !== state.wentBack
  if (!node.leased || (isForeign && guards.nameHistory) || commits.length <= node.number) return state
  const fresh = commits.slice(node.number).map(({ revocation }) => revocation)
  const [number, token] = [commits.length, tokenAt(commits, commits.length)]
  return { ...state, nodes: replaced(state.nodes, at, { ...node, knows: union(node.knows, fresh), number, token }) }
}

const lookAgain = (state: State, at: number, guards: Guards): State => {
  const node = state.nodes[at]!
  const has = (name: RevocationName): boolean => state.commits.some(({ revocation }) => revocation === name)
  let after = state
  if (guards.writeAgain) for (const name of node.knows) if (!has(name)) after = commit(after, name)
  const all = union(
    node.knows,
    after.commits.map(({ revocation }) => revocation),
  )
  const number = guards.readAnew ? 0 : after.commits.length
  return {
    ...after,
    nodes: replaced(after.nodes, at, {
      leased: false,
      sawOther: state.wentBack,
      // Without reading anew the node goes on with what it has, at the number that the store has now.
      knows: guards.readAnew ? all : node.knows,
      number,
      token: tokenAt(after.commits, number),
    }),
  }
}

const knowsAs = (row: Row, order: Order, commits: readonly Commit[], guards: Guards): boolean =>
  row.number >= order.number && (!guards.nameHistory || isIn(commits, row))

function* steps(state: State, guards: Guards): Iterable<[string, State]> {
  for (const at of NODES) {
    yield [`node ${at} renews`, renew(state, at, guards)]
    yield [`node ${at} looks`, look(state, at, guards)]
  }
  for (const at of NODES)
    if (state.nodes[at]!.leased) {
      // Its lease ends by itself: it was cut off.
      yield [
        `node ${at} is cut off`,
        { ...state, nodes: replaced(state.nodes, at, { ...state.nodes[at]!, leased: false }), rows: state.rows },
      ]
    }
  for (const name of REVOCATIONS) {
    const order = state.orders[name]
    if (order.state === 'none')
      for (const by of NODES) {
        if (!state.nodes[by]!.leased) continue
        const after = commit(remembered(state), name)
        const number = after.commits.length
        yield [
          `node ${by} revokes ${name}`,
          {
            ...after,
            nodes: replaced(after.nodes, by, { ...after.nodes[by]!, knows: union(after.nodes[by]!.knows, [name]) }),
            orders: {
              ...after.orders,
              [name]: { state: 'written', by, number, token: tokenAt(after.commits, number) },
            },
          },
        ]
      }
    if (order.state === 'written') yield* confirmSteps(state, name, order, guards)
  }
  if (!state.wentBack)
    for (const [index, { commits, rows }] of state.earlier.entries())
      yield [
        `the store loses all after moment ${index}`,
        { ...state, commits: state.commits.slice(0, commits), rows, wentBack: true, settled: false, earlier: [] },
      ]
  // The leases that the lost server has granted are over: a node that has not renewed since has none.
  if (!state.settled)
    yield [
      'lost leases end',
      {
        ...state,
        settled: true,
        nodes: state.nodes.map((node, at) => ({ ...node, leased: node.leased && state.rows[at]!.leased })),
      },
    ]
}

function* confirmSteps(state: State, name: RevocationName, order: Order, guards: Guards): Iterable<[string, State]> {
  const { commits, rows, nodes } = state
  if (guards.confirmInHistory && !isIn(commits, order)) {
    const after = commit(state, name)
    const number = after.commits.length
    yield [
      `${name} is written again`,
      { ...after, orders: { ...after.orders, [name]: { ...order, number, token: tokenAt(after.commits, number) } } },
    ]
    return
  }
  if (guards.waitForLostLeases && !state.settled) return
  // Whoever has a lease in the store must have acknowledged; one whose row says nothing of a lease is not known.
  const isThrough = NODES.every(
    (at) => at === order.by || !rows[at]!.leased || !nodes[at]!.leased || knowsAs(rows[at]!, order, commits, guards),
  )
  if (isThrough)
    yield [`${name} is confirmed`, { ...state, orders: { ...state.orders, [name]: { ...order, state: 'confirmed' } } }]
}

/** Numbers and tokens of a state are small: each is one character. */
const DIGITS = '0123456789abcdefghijklmnopqrstuvwxyz'
const digit = (number: number): string => {
  const found = DIGITS[number + 1]
  if (found === undefined) throw new RangeError(`the number ${number} has no place in a key`)
  return found
}
const rowsKey = (rows: readonly Row[]): string => {
  let key = ''
  for (const { leased, number, token } of rows) key += (leased ? '+' : '-') + digit(number) + digit(token)
  return key
}

/** One short text a state: hundreds of thousands are looked up. */
const keyOf = ({ commits, rows, nodes, orders, drawn, wentBack, settled, earlier }: State): string => {
  let key = (wentBack ? 'b' : '') + (settled ? 's' : '') + digit(drawn)
  for (const { token, revocation } of commits) key += digit(token) + revocation
  key += `|${rowsKey(rows)}|${rowsKey(nodes)}`
  for (const { knows, sawOther } of nodes) key += (sawOther ? 'o' : '.') + knows.join('')
  for (const name of REVOCATIONS) {
    const { state, by, number, token } = orders[name]
    key += `|${state[0]!}${digit(by)}${digit(number)}${digit(token)}`
  }
  for (const moment of earlier) key += digit(moment.commits) + rowsKey(moment.rows)
  return key
}

export interface Exploration {
  readonly states: number
  readonly counterexample: readonly string[] | undefined
}

/** What every node has spoken about with the store, until nothing changes any more. */
const settledFrom = (state: State, guards: Guards): State => {
  let after: State = {
    ...state,
    settled: true,
    nodes: state.nodes.map((node, at) => ({ ...node, leased: node.leased && state.rows[at]!.leased })),
  }
  for (let round = 0; round < 3; round += 1) for (const at of NODES) after = renew(after, at, guards)
  return after
}

const isUnknown = ({ nodes }: State, name: RevocationName): boolean =>
  nodes.some(({ leased, knows }) => leased && !knows.includes(name))

const isBroken = (state: State, guards: Guards): boolean => {
  return REVOCATIONS.some((name) => {
    if (state.orders[name].state !== 'confirmed') return false
    const isStored = isIn(state.commits, state.orders[name])
    const isRemembered = state.nodes.some(({ knows }) => knows.includes(name))
    return (isStored && isUnknown(state, name)) || (isRemembered && isUnknown(settledFrom(state, guards), name))
  })
}

/** Looks at every state that can be reached with so many steps at most. */
export const explore = (guards: Guards, depth: number): Exploration => {
  const came = new Map<string, { readonly from: string | undefined; readonly step: string }>()
  const first = keyOf(START)
  came.set(first, { from: undefined, step: 'start' })
  let frontier: [string, State][] = [[first, START]]
  for (let step = 0; step < depth && frontier.length > 0; step += 1) {
    const next: [string, State][] = []
    for (const [key, state] of frontier)
      for (const [name, after] of steps(state, guards)) {
        const text = keyOf(after)
        if (came.has(text)) continue
        came.set(text, { from: key, step: name })
        const isConfirmedUnknown = REVOCATIONS.some((each) => name === `${each} is confirmed` && isUnknown(after, each))
        if (isConfirmedUnknown || isBroken(after, guards))
          return { states: came.size, counterexample: pathTo(came, text) }
        next.push([text, after])
      }
    frontier = next
  }
  return { states: came.size, counterexample: undefined }
}

const pathTo = (
  came: ReadonlyMap<string, { readonly from: string | undefined; readonly step: string }>,
  key: string,
): string[] => {
  const path: string[] = []
  for (let at: string | undefined = key; at !== undefined; at = came.get(at)?.from) path.unshift(came.get(at)!.step)
  return path
}
