import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { startOAuthProvider, type OAuthProviderDouble, type Spoiled } from '../doubles/oauth-provider.ts'
import { RESOURCE, startGrants, type Grants } from '../support/grants.ts'

let provider: OAuthProviderDouble
let grants: Grants
beforeEach(async () => {
  provider = await startOAuthProvider()
  grants = await startGrants(provider, { timeout: 400 })
})
afterEach(async () => {
  await grants?.close()
  await provider?.close()
})

interface Failure {
  readonly code: string
  readonly facts: Readonly<Record<string, unknown>>
  readonly retryAfter: number | undefined
}
const failure = (work: Promise<unknown>): Promise<Failure> =>
  work.then(
    () => {
      throw new Error('it was given')
    },
    (error: unknown) => error as Failure,
  )

describe('a refresh', () => {
  it('promise 6, threat 20, requirement 25: happens once, however many ask for an expired token at the same moment', async () => {
    const grant = await grants.give()
    const given = await Promise.all(Array.from({ length: 200 }, () => grants.obtain()))
    expect(provider.refreshes).toHaveLength(1)
    expect(new Set(given.map(({ token }) => token.reveal())).size).toBe(1)
    expect(provider.isLive((await grants.stored(grant)).tokens.refreshToken!.reveal())).toBe(true)
  })

  it('promise 6: of two users are two, at the same time', async () => {
    await grants.give()
    await grants.give({ user: 'bob' })
    let together = 0
    let most = 0
    provider.duringRefresh = async () => {
      most = Math.max(most, (together += 1))
      await new Promise((resolve) => {
        setTimeout(resolve, 50)
      })
      together -= 1
    }
    await Promise.all([grants.obtain(), grants.obtain(undefined, 'bob')])
    expect([provider.refreshes.length, most]).toEqual([2, 2])
  })

  it('comes ahead of the end, in the background, while the token at hand is given', async () => {
    const grant = await grants.give({ expiresIn: 600_000 })
    const before = (await grants.stored(grant)).tokens.accessToken.reveal()
    expect((await grants.obtain()).token.reveal()).toBe(before)
    await expect.poll(async () => (await grants.stored(grant)).tokens.accessToken.reveal()).not.toBe(before)
    expect(provider.refreshes).toHaveLength(1)
  })

  it('requirement 25: comes in time where the refresh token ends before the access token does (refresh_token_timeout)', async () => {
    const grant = await grants.give()
    provider.more = { refresh_token_timeout: 600 }
    await grants.obtain()
    expect((await grants.stored(grant)).tokens.refreshUntil).toBe(grants.clock.now() + 600_000)
    grants.clock.forward(500_000)
    await grants.obtain()
    await expect.poll(() => provider.refreshes.length).toBe(2)
    await expect.poll(async () => (await grants.stored(grant)).tokens.refreshUntil).toBe(grants.clock.now() + 600_000)
  })

  it('requirement 25: brings nothing that is used for longer than what the user gave lasts (authorization_expires_in)', async () => {
    await grants.give()
    provider.more = { authorization_expires_in: 120, refresh_token_timeout: 'soon' }
    expect((await grants.obtain()).expiresAt).toBe(grants.clock.now() + 120_000)
    provider.more = { authorization_expires_in: -1 }
    grants.clock.forward(120_000)
    expect((await grants.obtain()).expiresAt).toBe(grants.clock.now() + 3_600_000)
  })

  it('requirement 25: keeps the refresh token that it has where none comes back', async () => {
    const grant = await grants.give()
    provider.rotates = false
    const before = (await grants.stored(grant)).tokens.refreshToken!.reveal()
    await grants.obtain()
    expect((await grants.stored(grant)).tokens.refreshToken!.reveal()).toBe(before)
  })

  it('requirement 25: has the new refresh token stored before anybody gets the new access token', async () => {
    const grant = await grants.give()
    const update = grants.store.grants.update
    const written: string[] = []
    const spied = grants.store.grants as { update: typeof update }
    spied.update = async (each) => {
      const result = await update(each)
      written.push(result.status)
      return result
    }
    const given = grants.obtain().then(() => {
      written.push('given')
    })
    await given
    expect(written).toEqual(['uncertain', 'active', 'given'])
    expect(provider.isLive((await grants.stored(grant)).tokens.refreshToken!.reveal())).toBe(true)
  })

  it('promise 6, threat 20: is not sent again for a nonce that was so long in coming that another node may have begun', async () => {
    const patient = await startGrants(provider, { timeout: 4000, shared: true })
    try {
      patient.configure({
        provider: { dpop: 'offered' },
        downstream: {
          inject: {
            hosts: ['https://notes-api.example'],
            as: { header: 'Authorization', value: 'DPoP {credential}' },
            only: true,
          },
        },
      })
      const grant = await patient.give()
      provider.spoil.token.push('nonce')
      provider.duringRefresh = () =>
        new Promise((resolve) => {
          setTimeout(resolve, 1700)
        })
      expect(await failure(patient.obtain())).toMatchObject({ code: 'refresh_in_progress' })
      expect([provider.refreshes.length, (await patient.stored(grant)).grant.status]).toEqual([1, 'active'])
      provider.duringRefresh = () => undefined
      provider.spoil.token.push('nonce')
      expect((await patient.obtain()).tokenType).toBe('Bearer')
      expect(provider.refreshes).toHaveLength(3)
    } finally {
      await patient.close()
    }
  })

  it('threat 21: is written down as doubtful before it is sent', async () => {
    const grant = await grants.give()
    let during: string | undefined
    provider.duringRefresh = async () => {
      during = (await grants.stored(grant)).grant.status
    }
    await grants.obtain()
    expect([during, (await grants.stored(grant)).grant.status]).toEqual(['uncertain', 'active'])
  })

  for (const lost of ['lost', 'failing', 'hang'] as const) {
    it(`threat 21: whose answer is ${lost} is tried once more with the kept token, and what is said then counts`, async () => {
      const grant = await grants.give()
      provider.spoil.token.push(lost)
      expect(await failure(grants.obtain())).toMatchObject({
        code: 'provider_unavailable',
        retryAfter: expect.any(Number),
      })
      expect((await grants.stored(grant)).grant).toMatchObject({
        status: 'uncertain',
        problem: 'its answer did not arrive',
      })
      // A provider that had acted takes the kept token for stolen; one that had not goes on.
      const second = await grants.obtain().then(
        () => 'given',
        (error: Failure) => error.code,
      )
      expect(second).toBe(lost === 'lost' ? 'reconnect_required' : 'given')
      expect(provider.refreshes).toHaveLength(2)
      if (lost !== 'lost') return
      const { code, facts } = await failure(grants.obtain())
      expect([code, facts['connect_url']]).toEqual(['reconnect_required', 'https://deputy.example/connect/read+write'])
      expect(provider.refreshes).toHaveLength(2)
    })
  }

  it('threat 21, requirement 25: whose answer cannot be verified keeps the new refresh token, and goes on with it', async () => {
    const grant = await grants.give()
    provider.spoil.token.push('unverifiable')
    expect((await failure(grants.obtain())).code).toBe('provider_refused')
    const { grant: doubtful, tokens } = await grants.stored(grant)
    expect(doubtful.status).toBe('uncertain')
    expect(provider.isLive(tokens.refreshToken!.reveal())).toBe(true)
    expect((await grants.obtain()).token.reveal()).toMatch(/^access-/)
    expect((await grants.stored(grant)).grant.status).toBe('active')
  })

  it('threat 21, requirement 24, fault 60: after answers that never came no loop replays a token, and nothing is over', async () => {
    const grant = await grants.give()
    provider.spoil.token.push('failing', 'failing', 'failing')
    for (let turn = 0; turn < 6; turn += 1) expect((await failure(grants.obtain())).code).toBe('provider_unavailable')
    expect(provider.refreshes).toHaveLength(2)
    grants.clock.forward(5000)
    for (let turn = 0; turn < 6; turn += 1)
      expect(await failure(grants.obtain())).toMatchObject({ code: 'provider_unavailable' })
    expect(provider.refreshes).toHaveLength(3)
    expect((await grants.stored(grant)).grant.status).toBe('uncertain')
    grants.clock.forward(15_000)
    expect((await grants.obtain()).token.reveal()).toMatch(/^access-/)
  })

  it('that the provider was too busy for is sent again, and costs no doubt', async () => {
    const grant = await grants.give()
    provider.spoil.token.push('busy')
    expect((await grants.obtain()).token.reveal()).toMatch(/^access-/)
    expect([provider.refreshes.length, (await grants.stored(grant)).grant.status]).toEqual([2, 'active'])
  })

  it('that the provider denies ends the grant in its own words, under the id of the request', async () => {
    const grant = await grants.give()
    provider.spoil.token.push('denied')
    expect(await failure(grants.obtain())).toMatchObject({
      code: 'reconnect_required',
      facts: { connect_url: expect.any(String), problem: 'invalid_grant: the user left' },
    })
    expect((await grants.stored(grant)).grant.status).toBe('reconnect_required')
    expect(grants.records).toMatchObject([
      {
        id: 'request-1',
        event: 'grant.refresh',
        outcome: 'failed',
        user: 'alice',
        detail: { grant: grant.id, auditNote: expect.stringContaining('the user left') },
      },
    ])
  })

  it('threat 22: keeps client, token endpoint, resource and scope, also when the answer leaves them out', async () => {
    const grant = await grants.give()
    provider.rotates = false
    const before = await grants.stored(grant)
    await grants.obtain()
    const after = await grants.stored(grant)
    expect(provider.refreshes[0]).toMatchObject({ resource: RESOURCE, grant_type: 'refresh_token' })
    expect({
      ...after.tokens,
      accessToken: 0,
      accessObtainedAt: 0,
      accessExpiresAt: 0,
      refreshToken: after.tokens.refreshToken!.reveal(),
    }).toEqual({
      ...before.tokens,
      accessToken: 0,
      accessObtainedAt: 0,
      accessExpiresAt: 0,
      refreshToken: before.tokens.refreshToken!.reveal(),
    })
    expect([after.grant.scopes, after.grant.clientGeneration]).toEqual([
      before.grant.scopes,
      before.grant.clientGeneration,
    ])
  })

  it('threat 22: is not sent for a grant of another client, endpoint or resource, and the grant is not harmed', async () => {
    const grant = await grants.give()
    for (const changed of [
      { downstream: { client: { client_id: 'another', client_secret: { secret: 'client' } } } },
      { downstream: { resource: 'https://other.example' } },
      { provider: { token_endpoint: `${provider.url}/other` } },
    ]) {
      grants.configure(changed)
      expect(await failure(grants.obtain())).toMatchObject({
        code: 'reconnect_required',
        facts: { problem: expect.stringContaining('changed since'), connect_url: expect.any(String) },
      })
    }
    expect(provider.refreshes).toHaveLength(0)
    grants.configure({})
    await grants.obtain()
    expect((await grants.stored(grant)).grant.status).toBe('active')
  })

  it('threat 23: that hangs answers everybody who waits in bounded time, with a time to come back', async () => {
    await grants.give()
    provider.spoil.token.push('hang')
    const began = performance.now()
    const failures = await Promise.all(Array.from({ length: 20 }, () => failure(grants.obtain())))
    expect(performance.now() - began).toBeLessThan(3000)
    for (const { code, retryAfter } of failures)
      expect([code, typeof retryAfter]).toEqual(['provider_unavailable', 'number'])
    expect(provider.refreshes).toHaveLength(1)
  })

  it('promise 4: whose grant is revoked meanwhile gives nothing, and what came is ended at the provider', async () => {
    const grant = await grants.give()
    provider.duringRefresh = async () => {
      grants.revoked.add(grant.id)
      await grants.store.grants.remove({ id: grant.id })
    }
    expect((await failure(grants.obtain())).code).toBe('revoked')
    expect(provider.revoked).toHaveLength(2)
    expect(provider.revoked[1]).toMatch(/^access-/)
  })

  it('fault 65, promise 4: whose grant is revoked meanwhile ends no other grant of the user that is in use', async () => {
    grants.configure({ provider: { revocation_ends: 'session' } })
    const grant = await grants.give()
    await grants.give({ server: 'calendar' })
    provider.duringRefresh = async () => {
      grants.revoked.add(grant.id)
      await grants.store.grants.remove({ id: grant.id })
    }
    expect((await failure(grants.obtain())).code).toBe('revoked')
    expect(provider.revoked).toEqual([])
    expect(await grants.store.upstreamRevocations.list()).toMatchObject([{ grant: grant.id, state: 'queued' }])
  })

  it('of a provider that keeps failing is left alone for a while', async () => {
    for (let at = 0; at < 6; at += 1) await grants.give({ user: `user-${at}` })
    provider.spoil.token.push(...Array.from({ length: 6 }, (): Spoiled => 'failing'))
    const codes: string[] = []
    for (let at = 0; at < 6; at += 1) codes.push((await failure(grants.obtain(undefined, `user-${at}`))).code)
    expect(codes).toEqual([...Array.from({ length: 5 }, () => 'provider_unavailable'), 'provider_circuit_open'])
    expect(provider.refreshes).toHaveLength(5)
  })
})

describe('narrowing', () => {
  it('promise 1: gives a token of the scopes asked for, and keeps the grant whole', async () => {
    const grant = await grants.give({ expiresIn: 3_600_000 })
    const whole = (await grants.stored(grant)).tokens.accessToken.reveal()
    const { scopes, overScoped, token } = await grants.obtain(['read'])
    expect([scopes, overScoped, provider.refreshes[0]?.['scope']]).toEqual([['read'], false, 'read'])
    const after = await grants.stored(grant)
    expect([after.tokens.accessToken.reveal(), after.grant.scopes]).toEqual([whole, ['read', 'write']])
    expect(token.reveal()).not.toBe(whole)
    expect(provider.isLive(after.tokens.refreshToken!.reveal())).toBe(true)
  })

  it('promise 1: is refused where the provider cannot, unless the file lets it pass as over-scoped', async () => {
    await grants.give({ expiresIn: 3_600_000 })
    grants.configure({ provider: { refresh: { rotates: true, narrows: false } } })
    expect((await failure(grants.obtain(['read']))).code).toBe('scope_not_narrowable')
    grants.configure({ provider: { refresh: { rotates: true, narrows: false } }, downstream: { over_scoped: 'mark' } })
    expect(await grants.obtain(['read'])).toMatchObject({ overScoped: true, scopes: ['read', 'write'] })
    expect(provider.refreshes).toHaveLength(0)
  })

  it('promise 1: that a provider answers with more than was asked is refused', async () => {
    await grants.give()
    provider.ignoresScope = true
    expect((await failure(grants.obtain(['read']))).code).toBe('scope_not_narrowable')
    grants.configure({ downstream: { over_scoped: 'mark' } })
    expect(await grants.obtain(['read'])).toMatchObject({ overScoped: true, scopes: ['read', 'write'] })
  })

  it('scopes that the user never saw are asked for, with those that were given', async () => {
    await grants.give({ expiresIn: 3_600_000 })
    expect(await failure(grants.obtain(['admin', 'read']))).toMatchObject({
      code: 'interaction_required',
      facts: { connect_url: 'https://deputy.example/connect/admin+read+write' },
    })
  })
})

describe('ending a grant at its provider', () => {
  it('promise 4: is queued when the provider is away, told later, and survives in the store', async () => {
    const grant = await grants.give()
    const { tokens } = await grants.stored(grant)
    provider.spoil.revocation.push('failing')
    const orders = await grants.connector.prepare([grant])
    expect(await grants.connector.revoke(grant, orders.get(grant.id))).toBe('queued')
    expect(provider.isLive(tokens.refreshToken!.reveal())).toBe(true)
    await grants.connector.drainUpstreamRevocations()
    // What could be ended is.
    expect(provider.revoked).toEqual([tokens.accessToken.reveal()])
    grants.clock.forward(120_000)
    await grants.connector.drainUpstreamRevocations()
    expect(provider.isLive(tokens.refreshToken!.reveal())).toBe(false)
    expect(await grants.store.upstreamRevocations.list()).toEqual([])
  })

  it('promise 4: is listed as irrevocable after about a day of trying, never forgotten', async () => {
    const grant = await grants.give()
    provider.spoil.revocation.push(...Array.from({ length: 100 }, (): Spoiled => 'failing'))
    await grants.connector.revoke(grant, (await grants.connector.prepare([grant])).get(grant.id))
    let turns = 0
    for (; turns < 60 && (await grants.store.upstreamRevocations.list())[0]?.state === 'queued'; turns += 1) {
      grants.clock.forward(14_400_000)
      await grants.connector.drainUpstreamRevocations()
    }
    expect(await grants.store.upstreamRevocations.list()).toMatchObject([{ grant: grant.id, state: 'irrevocable' }])
    expect(turns).toBeLessThan(60)
  })

  it('says so where the provider offers no such thing', async () => {
    const grant = await grants.give()
    grants.configure({ provider: { revocation: 'none' } })
    expect(await grants.connector.revoke(grant, (await grants.connector.prepare([grant])).get(grant.id))).toBe(
      'not_offered',
    )
    expect(await grants.store.upstreamRevocations.list()).toEqual([])
  })
})
