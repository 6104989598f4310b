import * as fc from 'fast-check'
import { expect, it } from 'vitest'
import type { RevocationScope } from '../../src/foundation/store/records/revocations.ts'
import { type Asked, createWorld, FILES, PEERS, POLICIES, START, type World } from './memo-world.ts'

type Change = (world: World) => void
interface Named {
  readonly name: string
  readonly change: Change
}
const named = (name: string, change: Change): Named => ({ name, change })

const SCOPES: readonly RevocationScope[] = [
  { kind: 'user', tenant: 'acme', user: 'alice' },
  { kind: 'user', tenant: 'acme', user: 'bob' },
  { kind: 'server', server: 'notes' },
  { kind: 'server', server: 'other' },
  { kind: 'downstream', downstream: 'ledger' },
  { kind: 'downstream', downstream: 'mail', tenant: 'acme' },
  { kind: 'issuer', issuer: 'https://idp.example' },
  { kind: 'token', token: 'https://idp.example#a1' },
  { kind: 'token', token: 'https://idp.example#b1' },
  { kind: 'grant', grant: 'g' },
  { kind: 'client', client: 'c' },
  { kind: 'session', session: 's' },
  { kind: 'provider', provider: 'p' },
  { kind: 'tenant', tenant: 'acme' },
  { kind: 'everything' },
]
let revocations = 0
const revoke =
  (scope: RevocationScope): Change =>
  ({ revocationIndex, clock, cache }) => {
    const id = `r${(revocations += 1)}`
    revocationIndex.add({
      id,
      scope,
      epoch: clock.now(),
      by: 'admin',
      reason: null,
      forgetAt: clock.now() + 900_000,
      number: revocationIndex.number + 1,
    })
    cache.purge((entry) => revocationIndex.findRevocation({ ...entry, grant: undefined }) !== undefined)
  }

/** All that can be taken back, taken back: a history in which nothing is allowed any more would show little. */
const recovery = named('recovery', (world) => {
  const { revocationIndex } = world
  revocationIndex.replace({ disabled: [], frozen: [] })
  Object.assign(world, {
    files: FILES[0],
    policy: POLICIES[0],
    sessions: [],
    isMember: true,
    areKeysPublished: true,
    isLogAway: false,
  })
})

const aChange: fc.Arbitrary<Named> = fc.oneof(
  { weight: 3, arbitrary: fc.constant(recovery) },
  fc.constantFrom(1, 1000, 29_000, 31_000, 61_000, 250_000, 601_000, -1, -1000, -62_000, -700_000).map((by) =>
    named(`clock ${by}`, ({ clock }) => {
      clock.set(by)
    }),
  ),
  fc.constantFrom(...SCOPES).map((scope) => named(`revoke ${JSON.stringify(scope)}`, revoke(scope))),
  fc.constantFrom(...FILES.keys()).map((at) => named(`files ${at}`, (world) => void (world.files = FILES[at]!))),
  fc
    .constantFrom(...POLICIES.keys())
    .map((at) => named(`policy ${at}`, (world) => void (world.policy = POLICIES[at]!))),
  fc.constantFrom(
    named('disable', ({ revocationIndex }) => {
      revocationIndex.disable({ tenant: 'acme', user: 'alice', at: 1, by: 'admin' })
    }),
    named('enable', ({ revocationIndex }) => {
      revocationIndex.enable('acme', 'alice')
    }),
    named('freeze', ({ revocationIndex }) => {
      revocationIndex.freeze({ tenant: 'acme', at: 1, by: 'admin', reason: null })
    }),
    named('thaw', ({ revocationIndex }) => {
      revocationIndex.thaw('acme')
    }),
    named('take over what another node knows', ({ revocationIndex }) => {
      revocationIndex.replace({ disabled: [{ tenant: 'acme', user: 'bob', at: 1, by: 'admin' }], frozen: [] })
    }),
    named('sweep', ({ revocationIndex, clock }) => {
      revocationIndex.sweep(clock.now())
    }),
    named('exec session', (world) => {
      const { pid, uid, startedAt } = PEERS[0]!
      world.sessions = [
        { id: 'x', server: 'notes', uid, pid, startedAt: startedAt!, tenant: 'acme', user: 'alice', since: START },
      ]
    }),
    named('exec session over', (world) => void (world.sessions = [])),
    named('membership lost', (world) => void (world.isMember = false)),
    named('membership held', (world) => void (world.isMember = true)),
    named('keys withdrawn', (world) => void (world.areKeysPublished = false)),
    named('keys published', (world) => void (world.areKeysPublished = true)),
    named('log away', (world) => void (world.isLogAway = true)),
    named('log back', (world) => void (world.isLogAway = false)),
    named('secret set', (world) => void (world.secretVersion += 1)),
    named('caches emptied', ({ cache }) => void cache.purge(() => true)),
  ),
)

/** One of these, or most often what is ordinary. */
const mostly = <T>(ordinary: T, ...others: readonly T[]): fc.Arbitrary<T> =>
  fc.oneof(
    { weight: 3 * others.length, arbitrary: fc.constant(ordinary) },
    { weight: others.length, arbitrary: fc.constantFrom(...others) },
  )
const anAsked: fc.Arbitrary<Asked> = fc.record({
  token: mostly(0, 1, 2, 2, 3),
  peer: mostly(0, 1, 1, 2),
  audiences: mostly<readonly string[]>(['ledger'], ['mail'], ['mail'], ['wiki'], ['ledger', 'wiki'], ['none'], []),
  scope: mostly<string | undefined>('read', 'read write', undefined, 'admin'),
  tool: mostly<string | undefined>(undefined, 'post', 'none'),
  header: mostly<Asked['header']>(undefined, 'traceparent', 'dpop', 'authorization'),
  more: mostly<Readonly<Record<string, string>>>(
    {},
    { client_id: 'notes' },
    { client_id: 'other' },
    { rejected_token: 'secret 1' },
    { actor_token: 'x', actor_token_type: 'urn:ietf:params:oauth:token-type:jwt' },
    { requested_token_type: 'urn:ietf:params:oauth:token-type:jwt' },
    { requested_token_type: 'urn:ietf:params:oauth:token-type:txn_token' },
    { client_assertion: 'x', client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer' },
  ),
})

/** A form, the same with one difference, and another one. */
const someForms = fc
  .tuple(
    anAsked,
    anAsked,
    fc.constantFrom(...(['token', 'peer', 'audiences', 'scope', 'tool', 'header', 'more'] as const)),
  )
  .map(([first, other, field]): Asked[] => [first, { ...first, [field]: other[field] }, other])

type Step = { readonly ask: number; readonly times: number } | { readonly change: Named; readonly isMeanwhile: boolean }
const aStep: fc.Arbitrary<Step> = fc.oneof(
  { weight: 2, arbitrary: fc.record({ ask: fc.nat(2), times: fc.integer({ min: 1, max: 4 }) }) },
  { weight: 1, arbitrary: fc.record({ change: aChange, isMeanwhile: fc.boolean() }) },
)

it('promises 1, 3 and 4: whatever happens, a request is answered, recorded and counted as one whose steps all run', async () => {
  let repeats = 0
  let requests = 0
  await fc.assert(
    fc.asyncProperty(someForms, fc.array(aStep, { minLength: 12, maxLength: 40 }), async (forms, steps) => {
      const [quick, slow] = [createWorld(true), createWorld(false)]
      const history: string[] = []
      for (const step of steps) {
        if ('change' in step) {
          const { change, name } = step.change
          history.push(`${step.isMeanwhile ? 'meanwhile ' : ''}${name}`)
          for (const world of [quick, slow]) {
            if (step.isMeanwhile) world.meanwhile = change
            else change(world)
          }
          continue
        }
        for (let time = 0; time < step.times; time += 1) {
          const asked = forms[step.ask]!
          history.push(JSON.stringify(asked))
          requests += 1
          const found = await quick.ask(asked)
          expect(found, history.join('\n')).toEqual(await slow.ask(asked))
          expect(JSON.stringify(found)).not.toContain('"internal"')
        }
      }
      repeats += quick.repeats
    }),
    { numRuns: Number(process.env['MEMO_RUNS'] ?? 60), interruptAfterTimeLimit: 60_000 },
  )
  // The property says nothing where nothing is looked up.
  expect(repeats).toBeGreaterThan(requests / 10)
}, 120_000)

const PLAIN: Asked = { token: 0, peer: 0, audiences: ['ledger'], scope: 'read' }
const session = {
  id: 'x',
  server: 'notes',
  uid: 1000,
  pid: 10,
  startedAt: '1',
  tenant: 'acme',
  user: 'alice',
  since: START,
}

interface Case {
  readonly asked?: Partial<Asked>
  readonly before?: Change
  readonly change: Change
  /** What is asked after the change; default: the same. */
  readonly afterwards?: Partial<Asked>
  /** Requests that are looked up before the change, of four, and after it, of one. */
  readonly repeats: readonly [before: number, after: number]
}
const CASES: Readonly<Record<string, Case>> = {
  nothing: { change: () => undefined, repeats: [2, 1] },
  'a trace': { change: () => undefined, afterwards: { header: 'traceparent' }, repeats: [2, 1] },
  'another minute': {
    change: ({ clock }) => {
      clock.set(60_000)
    },
    repeats: [2, 1],
  },
  'a clock that goes back': {
    change: ({ clock }) => {
      clock.set(-60_000)
    },
    repeats: [2, 1],
  },
  'the same files, read again': { change: (world) => void (world.files = FILES[1]!), repeats: [2, 0] },
  'the same policy, read again': { change: (world) => void (world.policy = { ...POLICIES[0]! }), repeats: [2, 0] },
  'a revocation of another': { change: revoke({ kind: 'user', tenant: 'acme', user: 'zoe' }), repeats: [2, 0] },
  'a revocation': { change: revoke({ kind: 'user', tenant: 'acme', user: 'alice' }), repeats: [2, 0] },
  'a rate, met late': { change: (world) => void (world.files = FILES[11]!), repeats: [2, 0] },
  'a rate': { before: (world) => void (world.files = FILES[11]!), change: () => undefined, repeats: [0, 0] },
  'a policy that reads the clock': {
    before: (world) => void (world.policy = POLICIES[4]!),
    change: ({ clock }) => {
      clock.set(60_000)
    },
    repeats: [0, 0],
  },
  'an exec session that begins': { change: (world) => void (world.sessions = [session]), repeats: [2, 0] },
  'an exec session that ends': {
    before: (world) => void (world.sessions = [session]),
    change: (world) => void (world.sessions = []),
    repeats: [0, 0],
  },
  'an empty cache': { change: ({ cache }) => void cache.purge(() => true), repeats: [2, 0] },
  'another process': { change: () => undefined, afterwards: { peer: 1 }, repeats: [2, 0] },
  'another Unix user': { change: () => undefined, afterwards: { peer: 2 }, repeats: [2, 0] },
  'a DPoP header': { change: () => undefined, afterwards: { header: 'dpop' }, repeats: [2, 0] },
  'an Authorization header': { change: () => undefined, afterwards: { header: 'authorization' }, repeats: [2, 0] },
  'the end of the token': {
    asked: { token: 1, audiences: ['mail'] },
    change: ({ clock }) => {
      clock.set(240_000)
    },
    repeats: [2, 0],
  },
  'the end of its verification, with its key withdrawn': {
    asked: { audiences: ['mail'] },
    change: (world) => {
      world.areKeysPublished = false
      world.clock.set(600_000)
    },
    repeats: [2, 0],
  },
  'its key withdrawn before that': {
    asked: { audiences: ['mail'] },
    change: (world) => {
      world.areKeysPublished = false
      world.clock.set(599_999)
    },
    repeats: [2, 1],
  },
  'a new version of its secret': {
    asked: { audiences: ['mail'] },
    change: (world) => void (world.secretVersion += 1),
    repeats: [2, 1],
  },
  'a secret that rotates': {
    asked: { audiences: ['mail'] },
    before: (world) => void (world.secretVersion = 2),
    change: () => undefined,
    repeats: [2, 1],
  },
  'a transaction token': {
    asked: { more: { requested_token_type: 'urn:ietf:params:oauth:token-type:txn_token' } },
    change: () => undefined,
    repeats: [0, 0],
  },
  'a report of a rejected credential': {
    asked: { more: { rejected_token: 'x' } },
    change: () => undefined,
    repeats: [0, 0],
  },
  'a lost membership': { change: (world) => void (world.isMember = false), repeats: [2, 0] },
  'a log that is away': { change: (world) => void (world.isLogAway = true), repeats: [2, 1] },
  'a revocation while the record is written': {
    change: (world) => void (world.meanwhile = revoke({ kind: 'user', tenant: 'acme', user: 'alice' })),
    repeats: [2, 1],
  },
}

it.each(Object.entries(CASES))(
  '%s: is answered as if all steps had run',
  async (_name, { asked, before, change, afterwards, repeats }) => {
    const [quick, slow] = [createWorld(true), createWorld(false)]
    const same = async (form: Asked): Promise<void> => {
      expect(await quick.ask(form)).toEqual(await slow.ask(form))
    }
    const form = { ...PLAIN, ...asked }
    for (const world of [quick, slow]) before?.(world)
    for (let time = 0; time < 4; time += 1) await same(form)
    const first = quick.repeats
    for (const world of [quick, slow]) change(world)
    await same({ ...form, ...afterwards })
    expect([first, quick.repeats - first]).toEqual(repeats)
  },
)

it('keeps no token of a form, and is bounded', async () => {
  const world = createWorld(true)
  for (let time = 0; time < 3; time += 1) await world.ask({ ...PLAIN, tool: `tool-${'x'.repeat(100)}` })
  expect(world.memo?.size).toBe(1)
  for (let at = 0; at < 3000; at += 1)
    for (let time = 0; time < 2; time += 1)
      await world.ask({ ...PLAIN, tool: `t${at}`, more: { other: 'y'.repeat(6000) } })
  expect(world.memo?.size).toBeGreaterThan(100)
  expect(world.memo?.size).toBeLessThan((16 * 1_048_576) / 12_000)
})
