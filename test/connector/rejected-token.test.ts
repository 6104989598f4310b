import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { judgeRejection } from '../../src/credentials/connector/rejection.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { startOAuthProvider, type OAuthProviderDouble } from '../doubles/oauth-provider.ts'
import { startGrants, type Grants } from '../support/grants.ts'

let provider: OAuthProviderDouble
let grants: Grants
beforeEach(async () => {
  provider = await startOAuthProvider()
  grants = await startGrants(provider)
})
afterEach(async () => {
  await grants?.close()
  await provider?.close()
})

const refused = (token: string, handed = true, renewed = false) => ({ token: new Secret(token), handed, renewed })
const obtained = async (rejected?: string): Promise<string> =>
  (
    await grants.obtain(undefined, undefined, rejected === undefined ? undefined : refused(rejected, false))
  ).token.reveal()

describe('fault 20: an access token that its service refuses', () => {
  it('is refreshed once; a fresh one that is refused as well asks the user to connect, and is tried again after the rest', async () => {
    const grant = await grants.give({ expiresIn: 3_600_000 })
    const first = await obtained()
    const second = await obtained(first)
    expect(second).not.toBe(first)
    expect(provider.refreshes).toHaveLength(1)
    await expect(obtained(second)).rejects.toMatchObject({
      code: 'reconnect_required',
      facts: { problem: expect.stringMatching(/401/), connect_url: 'https://deputy.example/connect/read+write' },
    })
    // Without a report too, on every node and after a restart.
    await expect(obtained()).rejects.toMatchObject({ code: 'reconnect_required' })
    expect((await grants.stored(grant)).grant.problem).toMatch(/401/)
    grants.clock.forward(601_000)
    expect(await obtained()).toBe(second)
    expect(await obtained(second)).not.toBe(second)
    expect(provider.refreshes).toHaveLength(2)
  })

  it('threat 20: no report makes Deputy refresh again within ten minutes, nor one of a token that is not the current one', async () => {
    await grants.give({ expiresIn: 3_600_000 })
    const first = await obtained()
    for (const other of ['guessed', '', `${first} `]) expect(await obtained(other)).toBe(first)
    const second = await obtained(first)
    expect(await Promise.all(Array.from({ length: 20 }, () => obtained(first)))).toEqual(Array(20).fill(second))
    grants.clock.forward(120_000)
    expect(await obtained(second)).toBe(second)
    expect(provider.refreshes).toHaveLength(1)
  })

  it('promise 6: is refreshed once, however many report it at the same moment', async () => {
    await grants.give({ expiresIn: 3_600_000 })
    const first = await obtained()
    const given = await Promise.all(Array.from({ length: 50 }, () => obtained(first)))
    expect(new Set(given).size).toBe(1)
    expect(provider.refreshes).toHaveLength(1)
  })

  it('that is narrowed counts where it was handed out for the same request', async () => {
    await grants.give({ expiresIn: 3_600_000 })
    const narrow = (await grants.obtain(['read'])).token.reveal()
    const next = (await grants.obtain(['read'], undefined, refused(narrow))).token.reveal()
    await expect(grants.obtain(['read'], undefined, refused(next, true, true))).rejects.toMatchObject({
      code: 'reconnect_required',
    })
  })

  it('says nothing about the other tokens of the grant: those that were refused with it are renewed as well', async () => {
    await grants.give({ expiresIn: 3_600_000 })
    const whole = await obtained()
    const [reading, writing] = [await grants.obtain(['read']), await grants.obtain(['write'])]
    for (const [scope, { token }] of [['read', reading] as const, ['write', writing] as const]) {
      const { token: next } = await grants.obtain([scope], undefined, refused(token.reveal()))
      expect(next.reveal()).not.toBe(token.reveal())
    }
    const next = await obtained(whole)
    expect(next).not.toBe(whole)
    await expect(obtained(next)).rejects.toMatchObject({ code: 'reconnect_required' })
  })

  it('promise 6: a report while a refresh is in flight costs the grant no rotated refresh token', async () => {
    const grant = await grants.give({ expiresIn: 3_600_000 })
    const second = await obtained(await obtained())
    let report: Promise<unknown> | undefined
    provider.duringRefresh = async () => {
      report = obtained(second).catch((error: unknown) => error)
      // Time for a report that does not wait for the refresh to be written down.
      await sleep(100)
    }
    const narrowed = await grants.obtain(['read'])
    provider.duringRefresh = () => undefined
    expect(await report).toMatchObject({ code: 'reconnect_required' })
    expect(narrowed.scopes).toEqual(['read'])
    const { tokens } = await grants.stored(grant)
    expect(provider.isLive(tokens.refreshToken!.reveal())).toBe(true)
    grants.clock.forward(601_000)
    expect(await obtained(second)).not.toBe(second)
  })

  it('promise 6: a report while another node refreshes waits for what that node writes', async () => {
    const grant = await grants.give({ expiresIn: 3_600_000 })
    const second = await obtained(await obtained())
    const { grant: stored } = await grants.stored(grant)
    await grants.store.grants.update({
      ...stored,
      refreshing: { owner: 'another', until: grants.clock.now() + 5000 },
    })
    await expect(obtained(second)).rejects.toMatchObject({ code: 'refresh_in_progress' })
    expect((await grants.stored(grant)).grant.version).toBe(stored.version + 1)
  })

  it('of a grant without refresh token asks the user to connect at once', async () => {
    const grant = await grants.give({ expiresIn: 3_600_000 })
    const first = await obtained()
    await grants.forget(grant)
    await expect(obtained(first)).rejects.toMatchObject({ code: 'reconnect_required' })
    expect(provider.refreshes).toHaveLength(0)
  })

  it('is judged by the time since the last renewal alone, also where a clock went back', () => {
    const judged = [undefined, 0, 60_000, 60_001, 599_999, 600_000].map((age) =>
      judgeRejection(age === undefined ? undefined : 1_000_000 - age, 1_000_000),
    )
    expect(judged).toEqual(['renew', 'end', 'end', 'keep', 'keep', 'renew'])
    expect(judgeRejection(8_200_000, 1_000_000)).toBe('renew')
  })
})
