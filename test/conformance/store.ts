import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Consent } from '../../src/foundation/store/records/consents.ts'
import type { Grant, GrantOwner } from '../../src/foundation/store/records/grants.ts'
import type { Lease } from '../../src/foundation/store/records/leases.ts'
import type { Rotation } from '../../src/foundation/store/records/rotations.ts'
import type { Session } from '../../src/foundation/store/records/sessions.ts'
import type { Store } from '../../src/foundation/store/store.ts'
import type { UpstreamRevocation } from '../../src/foundation/store/records/upstream-revocations.ts'
import { anAuditRow } from './audit-row.ts'

/** A place where a store lives: it can be opened again after it was closed. */
export interface StorePlace {
  open(): Promise<Store>
  dispose(): Promise<void>
}

const sealed = new Uint8Array([0, 1, 2, 255])
const owner: GrantOwner = { tenant: 'acme', user: 'ada', server: 'notes', downstream: 'calendar' }

const aGrant = (over: Partial<Grant> = {}): Omit<Grant, 'version'> => {
  const { version: _, ...grant } = {
    ...owner,
    id: 'g1',
    provider: 'example',
    clientGeneration: 'c1',
    scopes: ['read', 'write'],
    status: 'active' as const,
    problem: null,
    sealed,
    version: 0,
    createdAt: 1,
    updatedAt: 1,
    ...over,
  }
  return grant
}
const aConsent = (over: Partial<Consent> = {}): Consent => ({
  ...owner,
  asked: ['read', 'write'],
  granted: ['read'],
  at: 1,
  until: 9,
  ...over,
})
const aSession = (over: Partial<Session> = {}): Session => ({
  uid: 1000,
  tenant: 'acme',
  user: 'ada',
  issuer: 'https://idp.example',
  groups: ['staff'],
  claims: { level: 3 },
  signedInAt: 1,
  expiresAt: 100,
  ...over,
})
const aSecret = (version: number) => ({ tenant: 'acme', name: 'key', version, sealed, createdAt: version, token: null })
const anUpstream = (over: Partial<UpstreamRevocation> = {}): UpstreamRevocation => ({
  id: 'u1',
  grant: 'g1',
  tenant: 'acme',
  provider: 'example',
  sealed,
  attempts: 0,
  nextAt: 10,
  state: 'queued',
  problem: null,
  ...over,
})

/** What every store does, whatever it is made of. */
export const describeStore = (name: string, place: () => Promise<StorePlace>): void => {
  describe(`${name} is a store`, () => {
    let home: StorePlace
    let store: Store
    beforeEach(async () => {
      home = await place()
      store = await home.open()
    })
    afterEach(async () => {
      await store.close()
      await home.dispose()
    })
    const reopen = async (): Promise<void> => {
      await store.close()
      store = await home.open()
    }

    it('answers a ping', async () => {
      await expect(store.ping()).resolves.toBeUndefined()
    })

    it('keeps one identity token a user until it ends, and removes those of a user, tenant or issuer', async () => {
      const token = { tenant: 'acme', user: 'ada', issuer: 'https://idp.example', sealed, expiresAt: 100 }
      await store.identityTokens.put({ ...token, issuer: 'https://old.example' })
      await store.identityTokens.put(token)
      expect(await store.identityTokens.find({ tenant: 'acme', user: 'ada' }, 99)).toMatchObject({
        issuer: 'https://idp.example',
        expiresAt: 100,
      })
      expect(await store.identityTokens.find({ tenant: 'acme', user: 'ada' }, 100)).toBeUndefined()
      expect(await store.identityTokens.find({ tenant: 'other', user: 'ada' }, 1)).toBeUndefined()
      await store.identityTokens.put({ ...token, tenant: 'other' })
      await store.identityTokens.put({ ...token, user: 'bob' })
      expect(await store.identityTokens.remove({ tenant: 'acme', user: 'bob' })).toBe(1)
      expect(await store.identityTokens.remove({ issuer: 'https://old.example' })).toBe(0)
      expect(await store.identityTokens.remove({ tenant: 'other' })).toBe(1)
      expect(await store.identityTokens.sweep(100)).toBe(1)
    })
    it('fault 72: keeps the last name of each user, and forgets those of a tenant and those not seen for long', async () => {
      const name = { tenant: 'acme', user: 'ada', name: 'n', proof: 'p', seenAt: 100 }
      await store.userNames.put({ ...name, name: 'old' })
      await store.userNames.put(name)
      await store.userNames.put({ ...name, user: 'bob' })
      await store.userNames.put({ ...name, tenant: 'other', seenAt: 50 })
      expect(await store.userNames.list({ name: 'old' })).toEqual([])
      expect(await store.userNames.list({ name: 'n', tenant: 'acme' })).toEqual([name, { ...name, user: 'bob' }])
      expect(await store.userNames.list({ name: 'n' })).toHaveLength(3)
      expect(await store.userNames.has('acme', 'ada')).toBe(true)
      expect(await store.userNames.has('other', 'bob')).toBe(false)
      expect(await store.userNames.sweep(100)).toBe(1)
      expect(await store.userNames.remove({ tenant: 'acme' })).toBe(2)
    })
    it('finds a grant by its owner and by its id, byte for byte', async () => {
      const put = await store.grants.put(aGrant())
      expect(await store.grants.find(owner)).toEqual(put)
      expect(await store.grants.get('g1')).toEqual(put)
      expect(Buffer.from(put.sealed)).toEqual(Buffer.from(sealed))
      expect(await store.grants.find({ ...owner, tenant: 'other' })).toBeUndefined()
    })
    it('keeps one grant for each owner', async () => {
      const first = await store.grants.put(aGrant())
      const second = await store.grants.put(aGrant({ id: 'g2' }))
      expect(second.version).toBeGreaterThan(first.version)
      expect((await store.grants.list({})).map(({ id }) => id)).toEqual(['g2'])
    })
    it('lets exactly one of many writers update a version of a grant', async () => {
      const grant = await store.grants.put(aGrant())
      const results = await Promise.allSettled(
        Array.from({ length: 8 }, () => store.grants.update({ ...grant, status: 'uncertain' })),
      )
      expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
      for (const result of results)
        if (result.status === 'rejected') expect(result.reason).toMatchObject({ code: 'conflict' })
      expect(await store.grants.get('g1')).toMatchObject({ version: grant.version + 1, status: 'uncertain' })
    })
    it('remembers who refreshes a grant until the next write', async () => {
      const grant = await store.grants.put(aGrant())
      const claimed = await store.grants.update({ ...grant, refreshing: { owner: 'one', until: 99 } })
      expect((await store.grants.get('g1'))?.refreshing).toEqual({ owner: 'one', until: 99 })
      await store.grants.update({ ...claimed, refreshing: undefined })
      expect((await store.grants.get('g1'))?.refreshing).toBeUndefined()
    })
    it('refuses to update a grant that was removed', async () => {
      const grant = await store.grants.put(aGrant())
      await store.grants.remove({ id: 'g1' })
      await expect(store.grants.update(grant)).rejects.toMatchObject({ code: 'conflict' })
    })
    it('refuses a second record of the same id with conflict, and keeps the first', async () => {
      const first = await store.grants.put(aGrant())
      await expect(store.grants.put(aGrant({ user: 'bob' }))).rejects.toMatchObject({ code: 'conflict' })
      expect(await store.grants.list({})).toEqual([first])
      const attempt = { id: 'x', kind: 'connect', tenant: 'acme', sealed, expiresAt: 100 }
      await store.attempts.put(attempt)
      await expect(store.attempts.put({ ...attempt, tenant: 'other' })).rejects.toMatchObject({ code: 'conflict' })
      expect(await store.attempts.find('connect', 'x', 1)).toMatchObject({ tenant: 'acme' })
    })
    it('lists grants in pages and removes those that every field of a filter covers', async () => {
      for (const [id, user] of [
        ['a', 'u1'],
        ['b', 'u2'],
        ['c', 'u3'],
      ] as const)
        await store.grants.put(aGrant({ id, user }))
      await store.grants.put(aGrant({ id: 'd', tenant: 'other' }))
      expect((await store.grants.list({ tenant: 'acme' }, { limit: 2 })).map(({ id }) => id)).toEqual(['a', 'b'])
      expect((await store.grants.list({ tenant: 'acme' }, { after: 'b', limit: 2 })).map(({ id }) => id)).toEqual(['c'])
      expect((await store.grants.remove({ tenant: 'acme', user: 'u2' })).map(({ id }) => id)).toEqual(['b'])
      expect((await store.grants.remove({})).map(({ id }) => id).sort()).toEqual(['a', 'c', 'd'])
    })

    it('keeps the last consent of an owner', async () => {
      await store.consents.put(aConsent())
      await store.consents.put(aConsent({ granted: ['read', 'write'], until: 20 }))
      expect(await store.consents.find(owner)).toEqual(aConsent({ granted: ['read', 'write'], until: 20 }))
      expect(await store.consents.list({ tenant: 'acme' })).toHaveLength(1)
      expect(await store.consents.remove({ user: 'ada' })).toBe(1)
      expect(await store.consents.find(owner)).toBeUndefined()
    })

    it('gives an attempt to at most one of many concurrent takers', async () => {
      await store.attempts.put({ id: 'x', kind: 'connect', tenant: 'acme', sealed, expiresAt: 100 })
      const taken = await Promise.all(Array.from({ length: 16 }, () => store.attempts.take('connect', 'x', 50)))
      expect(taken.filter((attempt) => attempt !== undefined)).toHaveLength(1)
    })
    it('promise 6: makes a rotation of a refresh token with the record that allows it, or neither', async () => {
      const { authorizationRecords, audit } = store
      const record = { kind: 'RefreshToken', tenant: 'acme', session: 'acme.r', userCode: null, sealed, expiresAt: 100 }
      await authorizationRecords.put({ ...record, id: 'first', position: 0 })
      const rotation = authorizationRecords.rotation({ id: 'first', at: 40 }, { ...record, id: 'second', position: 1 })
      const now = async (): Promise<unknown[]> => {
        const both = ['first', 'second'].map((id) => authorizationRecords.find('RefreshToken', id, 50))
        return (await Promise.all(both)).map((found) => found?.consumedAt)
      }
      if (audit.joinsWrites) {
        await audit.append([anAuditRow(1)])
        await expect(audit.append([anAuditRow(1)], undefined, [rotation])).rejects.toMatchObject({ code: 'conflict' })
        expect(await now()).toEqual([null, undefined])
        await audit.append([anAuditRow(2)], undefined, [rotation])
      } else {
        await audit.apply([rotation])
      }
      expect(await now()).toEqual([40, null])
      // Made again, as when the answer was lost: what is used stays used.
      await authorizationRecords.consume('RefreshToken', 'second', 45)
      await audit.apply([rotation])
      expect(await now()).toEqual([40, 45])
      expect(await authorizationRecords.removeOf('acme.r')).toBe(2)
    })
    it('gives a record of the authorization server to at most one of many that use it, and keeps it used', async () => {
      const record = {
        kind: 'RefreshToken',
        id: 'x',
        tenant: 'acme',
        session: 'acme.s',
        userCode: null,
        position: 0,
        sealed,
        expiresAt: 100,
      }
      await store.authorizationRecords.put(record)
      const used = await Promise.all(
        Array.from({ length: 16 }, () => store.authorizationRecords.consume('RefreshToken', 'x', 50)),
      )
      expect(used.filter(Boolean)).toHaveLength(1)
      await store.authorizationRecords.put({ ...record, expiresAt: 200 })
      expect(await store.authorizationRecords.find('RefreshToken', 'x', 150)).toMatchObject({ consumedAt: 50 })
      expect(await store.authorizationRecords.find('AuthorizationCode', 'x', 50)).toBeUndefined()
      expect(await store.authorizationRecords.findAt('RefreshToken', 'acme.s', 1)).toBeUndefined()
      expect(await store.authorizationRecords.sweep(200)).toBe(1)
    })
    it('ends the records of a client session with it', async () => {
      const session = {
        id: 'acme.s',
        tenant: 'acme',
        user: 'ada',
        client: 'editor',
        server: 'notes',
        sealed,
        createdAt: 1,
        usedAt: 1,
        expiresAt: 100,
      }
      await store.clientSessions.put(session)
      await store.clientSessions.put({ ...session, id: 'acme.other', client: 'other', createdAt: 2 })
      for (const [id, of] of [
        ['a', 'acme.s'],
        ['b', 'acme.other'],
      ] as const)
        await store.authorizationRecords.put({
          kind: 'DeviceCode',
          id,
          tenant: 'acme',
          session: of,
          userCode: id,
          position: 0,
          sealed,
          expiresAt: 100,
        })
      expect((await store.clientSessions.list({ user: 'ada' })).map(({ id }) => id)).toEqual(['acme.other', 'acme.s'])
      expect(await store.clientSessions.byClient()).toEqual([
        { client: 'editor', sessions: 1, firstAt: 1, lastAt: 1 },
        { client: 'other', sessions: 1, firstAt: 2, lastAt: 1 },
      ])
      expect(await store.clientSessions.remove({ client: 'editor', tenant: 'acme' })).toBe(1)
      expect(await store.clientSessions.find('acme.s', 1)).toBeUndefined()
      expect(await store.authorizationRecords.findByUserCode('DeviceCode', 'a', 1)).toBeUndefined()
      expect(await store.authorizationRecords.findByUserCode('DeviceCode', 'b', 1)).toMatchObject({ id: 'b' })
      expect(await store.clientSessions.find('acme.other', 100)).toBeUndefined()
    })
    it('keeps a client that no file names: once, while it lives, and changed only from what was read', async () => {
      const client = { id: 'dcr_a', sealed, createdAt: 1, expiresAt: 100 }
      expect(await store.clients.add(client)).toBe(true)
      expect(await store.clients.add({ ...client, expiresAt: 900 })).toBe(false)
      expect(await store.clients.find('dcr_a', 99)).toMatchObject({ usedAt: null, expiresAt: 100 })
      expect(await store.clients.find('dcr_a', 100)).toBeUndefined()
      const other = Buffer.from('other')
      expect(await store.clients.replace('dcr_a', sealed, other)).toBe(true)
      expect(await store.clients.replace('dcr_a', sealed, other)).toBe(false)
      await store.clients.add({ ...client, id: 'https://b.example/c', createdAt: 2 })
      expect([await store.clients.unused(1, 50), await store.clients.unused(9, 50)]).toEqual([1, 2])
      await store.clients.used('dcr_a', null, 50)
      expect(await store.clients.find('dcr_a', 99)).toMatchObject({ usedAt: null, expiresAt: 100 })
      await store.clients.used('dcr_a', 5, 200)
      expect(await store.clients.find('dcr_a', 150)).toMatchObject({ usedAt: 5, expiresAt: 200 })
      expect([await store.clients.unused(9, 50), await store.clients.unused(9, 100)]).toEqual([1, 0])
      expect((await store.clients.list(9)).map(({ id }) => id)).toEqual(['dcr_a', 'https://b.example/c'])
      expect(await store.clients.sweep(100)).toBe(1)
      expect(await store.clients.remove('dcr_a')).toBe(true)
      expect(await store.clients.remove('dcr_a')).toBe(false)
    })
    it('gives no attempt of another kind and none that has expired', async () => {
      await store.attempts.put({ id: 'x', kind: 'connect', tenant: 'acme', sealed, expiresAt: 100 })
      expect(await store.attempts.take('login', 'x', 50)).toBeUndefined()
      expect(await store.attempts.find('connect', 'x', 50)).toMatchObject({ id: 'x' })
      expect(await store.attempts.find('connect', 'x', 100)).toBeUndefined()
      expect(await store.attempts.take('connect', 'x', 100)).toBeUndefined()
    })
    it('keeps attempts of two kinds with one id apart', async () => {
      for (const kind of ['connect', 'login'])
        await store.attempts.put({ id: 'x', kind, tenant: kind, sealed, expiresAt: 100 })
      expect(await store.attempts.take('login', 'x', 50)).toMatchObject({ tenant: 'login' })
      expect(await store.attempts.take('connect', 'x', 50)).toMatchObject({ tenant: 'connect' })
    })
    it('sweeps expired attempts', async () => {
      await store.attempts.put({ id: 'x', kind: 'connect', tenant: 'acme', sealed, expiresAt: 100 })
      expect(await store.attempts.sweep(99)).toBe(0)
      expect(await store.attempts.sweep(100)).toBe(1)
    })

    it('keeps one session for each Unix user, until it expires', async () => {
      await store.sessions.put(aSession({ user: 'bob' }))
      await store.sessions.put(aSession())
      expect(await store.sessions.find(1000, 99)).toEqual(aSession())
      expect(await store.sessions.find(1000, 100)).toBeUndefined()
      expect(await store.sessions.list()).toHaveLength(1)
      expect(await store.sessions.remove({ tenant: 'acme', user: 'ada' })).toBe(1)
    })

    it('moves the stages of a secret together', async () => {
      expect(await store.secrets.nextVersion('acme', 'key')).toBe(1)
      for (const version of [1, 2, 3]) await store.secrets.putCurrent(aSecret(version))
      expect((await store.secrets.list('acme')).map(({ version, stage }) => [version, stage])).toEqual([
        [1, null],
        [2, 'previous'],
        [3, 'current'],
      ])
      expect(await store.secrets.nextVersion('acme', 'key')).toBe(4)
      expect(await store.secrets.find('acme', 'key', 'current')).toMatchObject({ version: 3 })
    })
    it('changes no stage when the version of a secret exists already', async () => {
      for (const version of [1, 2]) await store.secrets.putCurrent(aSecret(version))
      const before = await store.secrets.list()
      await expect(store.secrets.putCurrent(aSecret(2))).rejects.toMatchObject({ code: 'conflict' })
      expect(await store.secrets.list()).toEqual(before)
      expect(await store.secrets.remove({ tenant: 'acme' })).toBe(2)
    })

    it('keeps revocations until they may be forgotten', async () => {
      await store.revocations.add({
        id: 'r1',
        scope: { kind: 'user', tenant: 'acme', user: 'ada' },
        epoch: 5,
        by: 'root',
        reason: null,
        forgetAt: null,
      })
      await store.revocations.add({
        id: 'r2',
        scope: { kind: 'grant', grant: 'g1' },
        epoch: 6,
        by: 'root',
        reason: 'left',
        forgetAt: 50,
      })
      expect(await store.revocations.sweep(50)).toBe(1)
      expect(await store.revocations.list()).toEqual([
        {
          id: 'r1',
          scope: { kind: 'user', tenant: 'acme', user: 'ada' },
          epoch: 5,
          by: 'root',
          reason: null,
          forgetAt: null,
          number: expect.any(Number) as number,
        },
      ])
    })
    it('disables a user once and enables them again', async () => {
      const disabled = { tenant: 'acme', user: 'ada', at: 1, by: 'root' }
      await store.disabledUsers.add(disabled)
      await store.disabledUsers.add(disabled)
      expect(await store.disabledUsers.list()).toEqual([disabled])
      expect(await store.disabledUsers.remove('acme', 'ada')).toBe(true)
      expect(await store.disabledUsers.remove('acme', 'ada')).toBe(false)
    })
    it('lets one of many concurrent callers claim a value, in each namespace', async () => {
      const claims = await Promise.all(Array.from({ length: 16 }, () => store.replays.claim('jti', 'v', 100)))
      expect(claims.filter((first) => first)).toHaveLength(1)
      expect(await store.replays.claim('dpop', 'v', 100)).toBe(true)
      expect(await store.replays.sweep(100)).toBe(2)
      expect(await store.replays.claim('jti', 'v', 200)).toBe(true)
    })
    it('counts how often an unknown caller was seen', async () => {
      await store.unknownCallers.record('c', { uid: 7 }, 10)
      await store.unknownCallers.record('c', { uid: 7 }, 20)
      expect(await store.unknownCallers.list()).toEqual([
        { id: 'c', facts: { uid: 7 }, firstSeen: 10, lastSeen: 20, count: 2 },
      ])
      expect(await store.unknownCallers.forget('c')).toBe(true)
      expect(await store.unknownCallers.forget('c')).toBe(false)
    })
    it('keeps signing keys', async () => {
      await store.signingKeys.put({
        kid: 'k',
        purpose: 'token',
        publicJwk: { kty: 'EC' },
        sealed,
        createdAt: 1,
        signsUntil: 2,
        publishedUntil: 3,
      })
      expect(await store.signingKeys.list()).toMatchObject([
        { kid: 'k', purpose: 'token', publicJwk: { kty: 'EC' }, signsUntil: 2 },
      ])
      await store.signingKeys.remove('k')
      expect(await store.signingKeys.list()).toEqual([])
    })
    it('gives the queued upstream revocations that are due', async () => {
      await store.upstreamRevocations.put(anUpstream())
      await store.upstreamRevocations.put(anUpstream({ id: 'u2', state: 'irrevocable' }))
      expect(await store.upstreamRevocations.due(9, 10)).toEqual([])
      expect((await store.upstreamRevocations.due(10, 10)).map(({ id }) => id)).toEqual(['u1'])
      const [due] = await store.upstreamRevocations.due(10, 10)
      const claims = await Promise.all(Array.from({ length: 6 }, () => store.upstreamRevocations.claim(due!, 50)))
      expect(claims.filter(Boolean)).toHaveLength(1)
      expect(await store.upstreamRevocations.due(49, 10)).toEqual([])
      await store.upstreamRevocations.put(anUpstream({ attempts: 1, nextAt: 99, problem: 'no answer' }))
      expect(await store.upstreamRevocations.due(10, 10)).toEqual([])
      await store.upstreamRevocations.remove('u1')
      expect(await store.upstreamRevocations.list()).toHaveLength(1)
    })

    it('keeps the position of each sink of the audit log', async () => {
      const position = { seq: 7, hash: 'hash-7', mark: 'mark', proof: 'proof' }
      expect(await store.auditPositions.find('siem')).toBeUndefined()
      await store.auditPositions.put('siem', position)
      await store.auditPositions.put('other', { ...position, seq: 2 ** 40 })
      await store.auditPositions.put('siem', { ...position, seq: 9 })
      expect(await store.auditPositions.find('siem')).toEqual({ ...position, seq: 9 })
      expect(await store.auditPositions.find('other')).toEqual({ ...position, seq: 2 ** 40 })
    })

    it('has everything again after it was closed and opened', async () => {
      const grant = await store.grants.put(aGrant())
      await store.secrets.putCurrent(aSecret(1))
      await store.audit.append([anAuditRow(1)])
      await reopen()
      expect(await store.grants.find(owner)).toEqual(grant)
      expect(await store.secrets.find('acme', 'key', 'current')).toMatchObject({ version: 1 })
      expect(await store.audit.query({}, { limit: 9 })).toEqual([anAuditRow(1)])
    })
    it('refuses with store_unavailable once it is closed', async () => {
      await store.close()
      await expect(store.ping()).rejects.toMatchObject({ code: 'store_unavailable' })
      await expect(store.audit.query({}, { limit: 1 })).rejects.toMatchObject({ code: 'store_unavailable' })
      store = await home.open()
    })

    it('numbers what changes who may get what, one after the other', async () => {
      const numbers = await Promise.all([
        store.revocations.add({
          id: 'r1',
          scope: { kind: 'everything' },
          epoch: 1,
          by: 'uid 0',
          reason: null,
          forgetAt: null,
        }),
        store.disabledUsers.add({ tenant: 'acme', user: 'ada', at: 1, by: 'uid 0' }),
        store.frozenTenants.add({ tenant: 'acme', at: 1, by: 'uid 0', reason: 'audit' }),
      ])
      const next = await store.disabledUsers.add({ tenant: 'acme', user: 'bob', at: 1, by: 'uid 0' })
      expect(next.number).toBeGreaterThan(Math.max(...numbers.map(({ number }) => number)))
      expect(new Set([...numbers, next].map(({ token }) => token)).size).toBeGreaterThan(1)
    })
    const aLease = (given: Partial<Lease> = {}): Lease => ({
      id: 'l1',
      tenant: 'acme',
      user: 'alice',
      server: 'notes',
      downstream: 'orders',
      backend: 'vault',
      role: 'reader',
      state: 'active',
      external: 'database/creds/reader/x',
      sealed,
      duration: 3_600_000,
      createdAt: 1,
      renewedAt: 1,
      usedAt: 1,
      expiresAt: 3_600_001,
      nextAt: 100,
      attempts: 0,
      problem: null,
      revision: 0,
      parent: null,
      ...given,
    })
    it('keeps one lease for each owner and what it asks for, besides those that are ending', async () => {
      const many = await Promise.all(
        Array.from({ length: 8 }, (_, index) => store.leases.begin(aLease({ id: `l${index}` }))),
      )
      expect(many.filter(Boolean)).toHaveLength(1)
      const [kept] = await store.leases.list({})
      expect(await store.leases.begin(aLease({ id: 'of-the-server', user: null }))).toBe(true)
      expect(await store.leases.begin(aLease({ id: 'again', user: null }))).toBe(false)
      expect(await store.leases.begin(aLease({ id: 'of-another-role', user: null, role: 'writer' }))).toBe(true)
      await store.leases.update({ ...kept!, state: 'ending' })
      expect(await store.leases.find(kept!)).toBeUndefined()
      expect(await store.leases.begin(aLease({ id: 'next' }))).toBe(true)
      await reopen()
      expect((await store.leases.find(kept!))?.id).toBe('next')
      expect((await store.leases.find({ ...kept!, user: null }))?.id).toBe('of-the-server')
      expect((await store.leases.find({ ...kept!, user: null, role: 'writer' }))?.id).toBe('of-another-role')
      expect(await store.leases.find({ ...kept!, user: null, backend: 'other' })).toBeUndefined()
      expect((await store.leases.list({ tenant: 'acme', user: 'alice' })).map(({ id }) => id).sort()).toEqual(
        [kept!.id, 'next'].sort(),
      )
      expect((await store.leases.list({ state: 'ending' })).map(({ id }) => id)).toEqual([kept!.id])
    })
    it('lets one writer change a lease, and remembers its last use beside that', async () => {
      const lease = aLease()
      await store.leases.begin(lease)
      await store.leases.touch('l1', 50)
      await store.leases.touch('l1', 40)
      const changed = await store.leases.update({ ...lease, nextAt: 200, sealed: null })
      expect(await store.leases.find(lease)).toEqual({ ...changed, usedAt: 50 })
      await expect(store.leases.update(lease)).rejects.toMatchObject({ code: 'conflict' })
      expect(await store.leases.due(199, 10)).toEqual([])
      expect((await store.leases.due(200, 10)).map(({ id }) => id)).toEqual(['l1'])
      await store.leases.remove('l1')
      expect(await store.leases.list({})).toEqual([])
    })
    it('keeps the version that each holder of a secret has last, until its time is over', async () => {
      const secret = { tenant: 'acme', backend: 'embedded', secret: 'key' }
      await store.secretHolders.put({ ...secret, holder: 'a', server: 'notes', version: '1', until: 100 })
      await store.secretHolders.put({ ...secret, holder: 'a', server: 'notes', version: '2', until: 200 })
      await store.secretHolders.put({ ...secret, holder: 'b', server: 'notes', version: '1', until: 50 })
      await store.secretHolders.put({
        ...secret,
        secret: 'other',
        holder: 'a',
        server: 'notes',
        version: '1',
        until: 100,
      })
      await reopen()
      expect((await store.secretHolders.list(secret, 49)).map(({ holder, version }) => [holder, version])).toEqual([
        ['a', '2'],
        ['b', '1'],
      ])
      expect((await store.secretHolders.list(secret, 50)).map(({ holder }) => holder)).toEqual(['a'])
      await store.secretHolders.put({
        ...secret,
        secret: 'third',
        holder: 'c',
        server: 'notes',
        version: '1',
        until: 1000,
      })
      await store.secretHolders.forget('c')
      expect(await store.secretHolders.list({ ...secret, secret: 'third' }, 0)).toEqual([])
      expect(await store.secretHolders.sweep(100)).toBe(2)
      expect(await store.secretHolders.list(secret, 0)).toEqual([
        { ...secret, holder: 'a', server: 'notes', version: '2', until: 200 },
      ])
    })
    it('releases what a node has claimed, and no other', async () => {
      const aRotation = (id: string, owner: string): Rotation => ({
        id,
        tenant: 'acme',
        backend: 'embedded',
        secret: id,
        policy: 'p',
        rotator: 'redis',
        target: null,
        reason: 'test',
        step: 'planned',
        state: 'running',
        oldVersion: null,
        newVersion: null,
        problem: null,
        turnedBack: null,
        attempts: 0,
        nextAt: 1,
        graceUntil: null,
        startedAt: 1,
        endedAt: null,
        owner: { id: owner, until: 1000 },
        revision: 0,
      })
      for (const [id, claimedBy] of [
        ['r1', 'a/1'],
        ['r2', 'a/2'],
        ['r3', 'ab/1'],
        ['r4', 'a'],
      ] as const)
        await store.rotations.begin(aRotation(id, claimedBy))
      await store.rotations.release('a')
      expect((await store.rotations.due(10, 10, 10)).map(({ id }) => id).sort()).toEqual(['r1', 'r2'])
    })
    it('finds what is sealed under a key, wherever it is, and replaces it unless it has changed or is being worked on', async () => {
      const under = (key: string): Uint8Array =>
        Buffer.concat([Buffer.of(1), Buffer.from(key, 'hex'), Buffer.from('text')])
      const [old, other, next] = ['aaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbb', 'cccccccccccccccc'] as const
      const grant = await store.grants.put(aGrant({ sealed: under(old) }))
      await store.grants.put(aGrant({ id: 'g2', user: 'bob', sealed: under(other) }))
      await store.grants.put(aGrant({ id: 'g3', tenant: 'globex', sealed: under(old) }))
      await store.secrets.putCurrent({ ...aSecret(1), sealed: under(old) })
      await store.leases.begin({
        ...owner,
        id: 'l1',
        backend: 'vault',
        role: 'r',
        state: 'active',
        external: 'x',
        sealed: under(old),
        duration: 1,
        createdAt: 1,
        renewedAt: 1,
        usedAt: 1,
        expiresAt: 9,
        nextAt: 9,
        attempts: 0,
        problem: null,
        revision: 0,
        parent: null,
      })
      await store.leases.begin({
        ...owner,
        user: null,
        id: 'l2',
        backend: 'vault',
        role: 'r',
        state: 'making',
        external: null,
        sealed: null,
        duration: 1,
        createdAt: 1,
        renewedAt: 1,
        usedAt: 1,
        expiresAt: 9,
        nextAt: 9,
        attempts: 0,
        problem: null,
        revision: 0,
        parent: null,
      })
      await store.upstreamRevocations.put(anUpstream({ sealed: under(old) }))
      await store.attempts.put({ kind: 'link', id: 'a1', tenant: 'acme', sealed: under(old), expiresAt: 100 })
      await store.signingKeys.put({
        kid: 'k1',
        purpose: 'token',
        publicJwk: {},
        sealed: under(old),
        createdAt: 1,
        signsUntil: 2,
        publishedUntil: 3,
      })
      const claimed = await store.grants.update({ ...grant, refreshing: { owner: 'one', until: 50 } })

      const seen: string[] = []
      for (let now = 10; ;) {
        const records = await store.sealed.under('acme', [old], 2)
        if (records.length === 0) break
        for (const record of records) {
          expect(record.name.tenant).toBe('acme')
          const written = await store.sealed.replace(record, under(next), now)
          if (written) {
            seen.push(`${record.name.kind} ${record.name.id}`)
            continue
          }
          expect([record.name.id, now]).toEqual(['["g1","ada","notes","calendar"]', 10])
          now = 50
        }
      }
      expect(seen.sort()).toEqual([
        'attempt/link a1',
        'grant/2 ["g1","ada","notes","calendar"]',
        'lease/2 ["l1","ada","notes","calendar","vault","r"]',
        'secret key#1',
        'upstream-revocation u1',
      ])
      await expect(store.grants.update({ ...claimed, status: 'uncertain' })).rejects.toMatchObject({ code: 'conflict' })
      expect((await store.sealed.under('globex', [old, other], 10)).map(({ name }) => name.id)).toEqual([
        '["g3","ada","notes","calendar"]',
      ])
      const [own] = await store.sealed.under('_deputy', [old], 10)
      expect(own?.name).toEqual({ tenant: '_deputy', kind: 'signing-key', id: 'k1' })
      expect([
        await store.sealed.replace(own!, under(next), 1),
        await store.sealed.replace(own!, under(next), 1),
      ]).toEqual([true, false])
    })
    it('keeps which tenants are frozen', async () => {
      await store.frozenTenants.add({ tenant: 'acme', at: 1, by: 'uid 0', reason: 'audit' })
      await store.frozenTenants.add({ tenant: 'acme', at: 2, by: 'uid 1', reason: null })
      await reopen()
      expect(await store.frozenTenants.list()).toEqual([{ tenant: 'acme', at: 1, by: 'uid 0', reason: 'audit' }])
      expect([await store.frozenTenants.remove('acme'), await store.frozenTenants.remove('acme')]).toEqual([
        true,
        false,
      ])
    })
  })
}
