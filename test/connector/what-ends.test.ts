/** What ends a grant (faults 16, 60 and 108): the rule, and a provider behind a balancer that answers for it. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import {
  certaintyOf,
  isEnded,
  pauseInDoubt,
  whatBecomes,
  type Certainty,
  type RefreshEvent,
} from '../../src/credentials/connector/oauth-grant/what-ends.ts'
import { refuse } from '../../src/errors.ts'
import type { GrantStatus } from '../../src/foundation/store/records/grants.ts'
import { startOAuthProvider, type OAuthProviderDouble, type RawAnswer } from '../doubles/oauth-provider.ts'
import { startGrants, type Grants } from '../support/grants.ts'

/** [event, a provider that rotates and was sure, one that rotates and was doubtful, one that does not rotate] */
const RULE: readonly (readonly [RefreshEvent, GrantStatus, GrantStatus, GrantStatus])[] = [
  ['answered', 'active', 'active', 'active'],
  ['denied', 'reconnect_required', 'reconnect_required', 'reconnect_required'],
  ['challenged', 'active', 'uncertain', 'active'],
  ['refused', 'active', 'uncertain', 'active'],
  ['not_sent', 'active', 'uncertain', 'active'],
  ['lost', 'uncertain', 'uncertain', 'active'],
  ['unverified', 'uncertain', 'uncertain', 'active'],
]

describe('fault 60: the rule of what ends a grant', () => {
  for (const [event, sure, doubtful, unrotated] of RULE)
    it(`${event}: ${sure === 'reconnect_required' ? 'ends it' : 'does not end it'}`, () => {
      const after = (from: Certainty, rotates: boolean): GrantStatus => whatBecomes(from, event, { rotates })
      expect([after('sure', true), after('doubtful', true), after('sure', false)]).toEqual([sure, doubtful, unrotated])
      expect(after('doubtful', false)).toBe(unrotated)
    })

  it('in doubt waits longer and longer, up to an hour, and never gives up', () => {
    expect([0, 1, 2, 3, 6, 7, 8, 100].map(pauseInDoubt)).toEqual([
      0, 5000, 15_000, 45_000, 1_215_000, 3_600_000, 3_600_000, 3_600_000,
    ])
    const statuses = (['active', 'uncertain', 'retrying', 'reconnect_required'] as const).map((status) => ({ status }))
    expect(statuses.map(isEnded)).toEqual([false, false, false, true])
    expect(statuses.slice(0, 3).map(certaintyOf)).toEqual(['sure', 'doubtful', 'doubtful'])
  })
})

const html = (status: number): RawAnswer => ({
  status,
  headers: { 'content-type': 'text/html' },
  body: `<html><h1>${status}</h1></html>`,
})

describe('fault 60: a provider that rotates, behind a balancer', () => {
  let provider: OAuthProviderDouble
  let grants: Grants
  beforeEach(async () => {
    vi.useFakeTimers({ toFake: ['Date'] })
    provider = await startOAuthProvider()
    grants = await startGrants(provider, { timeout: 2000 })
  })
  afterEach(async () => {
    await grants?.close()
    await provider?.close()
    vi.useRealTimers()
  })
  const code = (user: string): Promise<string> =>
    grants.obtain(undefined, user).then(
      () => 'given',
      (error: { code: string }) => error.code,
    )
  /** A provider that fails five times in a row is left alone for a while: the next one is asked after that. */
  const rest = (): void => {
    vi.setSystemTime(Date.now() + 11_000)
  }

  it('that answers several 502, 503 and 504 in a row under 50 users ends no grant', async () => {
    const users = Array.from({ length: 50 }, (_, n) => `user-${n}`)
    const given = new Map<string, Awaited<ReturnType<Grants['give']>>>()
    for (const user of users) given.set(user, await grants.give({ user }))
    for (const status of [502, 504, 502]) {
      for (const user of users) {
        rest()
        provider.raw.push(html(status))
        expect(await code(user)).toBe('provider_unavailable')
      }
      grants.clock.forward(60_000)
    }
    for (const grant of given.values()) expect((await grants.stored(grant)).grant.status).toBe('uncertain')
    rest()
    for (const user of users) expect(await code(user)).toBe('given')
    for (const grant of given.values()) expect((await grants.stored(grant)).grant.status).toBe('active')
  })

  it('that says 503 has not passed the request on: there is no doubt, and no pause', async () => {
    const grant = await grants.give()
    for (let n = 0; n < 4; n += 1) {
      provider.raw.push(html(503))
      expect(await code('alice')).toBe('provider_unavailable')
      expect((await grants.stored(grant)).grant.status).toBe('active')
    }
    expect(await code('alice')).toBe('given')
  })

  it('in doubt gives a token that is still good, and asks again after the pause', async () => {
    const grant = await grants.give({ expiresIn: 600_000 })
    provider.raw.push(html(502), html(502))
    // Ahead of its end, in the background.
    expect(await code('alice')).toBe('given')
    await expect.poll(async () => (await grants.stored(grant)).grant.status).toBe('uncertain')
    expect(await code('alice')).toBe('provider_unavailable')
    const { length } = provider.refreshes
    expect([await code('alice'), await code('alice'), provider.refreshes.length]).toEqual(['given', 'given', length])
    grants.clock.forward(5000)
    expect(await code('alice')).toBe('given')
    expect((await grants.stored(grant)).grant.status).toBe('active')
  })
})

describe('fault 108: a store that is away between the answer of a provider and its write', () => {
  let provider: OAuthProviderDouble
  let grants: Grants
  let isAway = false
  beforeEach(async () => {
    isAway = false
    provider = await startOAuthProvider()
    grants = await startGrants(provider, {
      timeout: 2000,
      shared: true,
      wrap: (store) => ({
        ...store,
        update: (grant) =>
          isAway ? Promise.reject(refuse('store_unavailable', { problem: 'away' })) : store.update(grant),
      }),
    })
    provider.duringRefresh = () => {
      isAway = true
    }
  })
  afterEach(async () => {
    await grants?.close()
    await provider?.close()
  })
  const obtain = (): Promise<string> =>
    grants.obtain().then(
      ({ token }) => token.reveal(),
      (error: { code: string }) => error.code,
    )

  it('loses no refresh token: it is written when the store is back, and no older one is sent meanwhile', async () => {
    const grant = await grants.give()
    expect(await obtain()).toBe('store_unavailable')
    expect([await obtain(), provider.refreshes.length]).toEqual(['store_unavailable', 1])
    isAway = false
    await expect.poll(async () => (await grants.stored(grant)).grant.status).toBe('active')
    expect(provider.isLive((await grants.stored(grant)).tokens.refreshToken!.reveal())).toBe(true)
    expect(await obtain()).toMatch(/^access-/)
    expect(provider.refreshes).toHaveLength(1)
  })

  it('loses no refresh token either where the store that comes back has lost the claim', async () => {
    const grant = await grants.give()
    const { grant: before } = await grants.stored(grant)
    expect(await obtain()).toBe('store_unavailable')
    await grants.store.grants.remove({ id: before.id })
    expect(await grants.store.grants.put(before)).toEqual(before)
    isAway = false
    await expect.poll(async () => (await grants.stored(grant)).grant.version).toBeGreaterThan(before.version)
    expect(provider.isLive((await grants.stored(grant)).tokens.refreshToken!.reveal())).toBe(true)
    expect((await grants.stored(grant)).grant.status).toBe('active')
  })

  it('loses no refresh token where the process is ended before the next try', async () => {
    const grant = await grants.give()
    expect(await obtain()).toBe('store_unavailable')
    isAway = false
    await grants.connector.close()
    expect((await grants.stored(grant)).grant.status).toBe('active')
    expect(provider.isLive((await grants.stored(grant)).tokens.refreshToken!.reveal())).toBe(true)
  })

  it('is fenced: a grant that was revoked meanwhile is not written, and its tokens are ended', async () => {
    const { id } = await grants.give()
    expect(await obtain()).toBe('store_unavailable')
    grants.revoked.add(id)
    await grants.store.grants.remove({})
    isAway = false
    await expect.poll(() => provider.revoked.length).toBeGreaterThan(0)
    expect(await grants.store.grants.list({})).toEqual([])
  })

  it('promise 6: loses no grant whose row the store has lost: it is written again, and not ended at the provider', async () => {
    const grant = await grants.give()
    expect(await obtain()).toBe('store_unavailable')
    await grants.store.grants.remove({})
    isAway = false
    await expect.poll(() => grants.store.grants.get(grant.id)).toBeDefined()
    expect(provider.isLive((await grants.stored(grant)).tokens.refreshToken!.reveal())).toBe(true)
    // The same where the store answers, and has lost the row while the provider was asked.
    grants.clock.forward(7_200_000)
    provider.duringRefresh = async () => void (await grants.store.grants.remove({}))
    expect(await obtain()).toMatch(/^access-/)
    expect(provider.isLive((await grants.stored(grant)).tokens.refreshToken!.reveal())).toBe(true)
    expect(provider.revoked).toEqual([])
  })

  it('ends what was got for a grant that a second connection has replaced, where that does not end the new one', async () => {
    for (const [ends, count] of [
      ['token', 1],
      ['client', 0],
    ] as const) {
      grants.configure({ provider: { revocation_ends: ends } })
      const before = await grants.give()
      provider.revoked.length = 0
      provider.duringRefresh = () => grants.give({ expiresIn: 3_600_000 }).then(() => undefined)
      expect(await obtain()).toBe('revoked')
      expect([provider.revoked.length > 0, await grants.store.grants.get(before.id)]).toEqual([count > 0, undefined])
      expect((await grants.store.upstreamRevocations.list()).length).toBe(1 - count)
    }
  })

  it('is fenced: what another node has got meanwhile stays', async () => {
    const grant = await grants.give()
    expect(await obtain()).toBe('store_unavailable')
    const { grant: doubtful } = await grants.stored(grant)
    const theirs = await grants.store.grants.update({ ...doubtful, status: 'active', problem: null })
    isAway = false
    await new Promise((resolve) => {
      setTimeout(resolve, 300)
    })
    expect((await grants.stored(grant)).grant).toEqual(theirs)
  })
})
