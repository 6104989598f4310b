/** Grants that end together at a provider (fault 65), and one that a second connection has replaced (fault 64). */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createEndReplaced } from '../../src/credentials/connector/oauth-grant/replaced.ts'
import type { Grant } from '../../src/foundation/store/records/grants.ts'
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

const HOUR = 3_600_000
/** As the line of a revocation does it. */
const end = async (grant: Grant): Promise<string> => {
  const orders = await grants.connector.prepare([grant])
  await grants.store.grants.remove({ id: grant.id })
  return grants.connector.revoke(grant, orders.get(grant.id))
}
/** Another grant of the same user at the same provider, for another server. */
const another = async (given: Partial<Grant> = {}): Promise<Grant> => {
  const grant = await grants.give({ server: 'calendar', ...(given.user === undefined ? {} : { user: given.user }) })
  return grants.store.grants.update({ ...grant, ...given })
}

describe('fault 65: ending one grant at a provider', () => {
  for (const [ends, waits] of [
    ['token', false],
    ['session', true],
    ['client', true],
  ] as const)
    it(`where that ends the ${ends} ${waits ? 'waits while another grant of the user is in use' : 'waits for no other'}`, async () => {
      grants.configure({ provider: { revocation_ends: ends } })
      const grant = await grants.give()
      const other = await another()
      await another({ user: 'bob' })
      expect(await grants.connector.sharedWith(grant)).toEqual(waits ? [other.id] : [])
      expect(await end(grant)).toBe(waits ? 'waiting' : 'done')
      expect(provider.revoked.length > 0).toBe(!waits)
      if (!waits) return
      // However long that takes: it is no attempt that failed.
      for (let n = 0; n < 20; n += 1) {
        grants.clock.forward(HOUR)
        await grants.connector.drainUpstreamRevocations()
      }
      expect(provider.revoked).toEqual([])
      expect(await grants.store.upstreamRevocations.list()).toMatchObject([
        { state: 'queued', problem: expect.stringContaining(other.id) as string },
      ])
      await grants.store.grants.remove({ id: other.id })
      grants.clock.forward(HOUR)
      await grants.connector.drainUpstreamRevocations()
      expect(provider.revoked.length).toBeGreaterThan(0)
      expect(await grants.store.upstreamRevocations.list()).toEqual([])
    })

  it('does not wait for one that is over', async () => {
    grants.configure({ provider: { revocation_ends: 'client' } })
    const grant = await grants.give()
    await another({ status: 'reconnect_required' })
    expect(await end(grant)).toBe('done')
  })

  it('fault 12: does not wait for a row that a writer of the store has added, nor for a grant that was revoked', async () => {
    grants.configure({ provider: { revocation_ends: 'client' } })
    const grant = await grants.give()
    await grants.store.grants.put({ ...grant, id: 'forged', server: 'calendar' })
    const revoked = await grants.give({ server: 'drive' })
    grants.revoked.add(revoked.id)
    expect(await grants.connector.sharedWith(grant)).toEqual([])
    expect(await end(grant)).toBe('done')
  })
})

describe('fault 64: a grant that a second connection has replaced', () => {
  const endReplaced = () => createEndReplaced({ upstream: grants.connector, envelope: grants.envelope })

  it('is ended at the provider', async () => {
    const before = await grants.give()
    const { tokens } = await grants.stored(before)
    const after = await grants.give()
    await endReplaced()(before, after)
    expect(provider.revoked).toContain(tokens.refreshToken!.reveal())
    expect(provider.isLive(tokens.refreshToken!.reveal())).toBe(false)
    expect(provider.isLive((await grants.stored(after)).tokens.refreshToken!.reveal())).toBe(true)
    expect(await grants.store.upstreamRevocations.list()).toEqual([])
  })

  it('is ended with the last grant where the provider would end the new one as well', async () => {
    grants.configure({ provider: { revocation_ends: 'session' } })
    const before = await grants.give()
    const after = await grants.give()
    await endReplaced()(before, after)
    expect(provider.revoked).toEqual([])
    expect(await grants.store.upstreamRevocations.list()).toMatchObject([{ grant: before.id, state: 'queued' }])
    await end((await grants.stored(after)).grant)
    grants.clock.forward(HOUR)
    await grants.connector.drainUpstreamRevocations()
    expect(await grants.store.upstreamRevocations.list()).toEqual([])
  })

  it('is left where the provider gave the same tokens once more', async () => {
    const grant = await grants.give()
    await endReplaced()(grant, grant)
    expect(provider.revoked).toEqual([])
  })
})
