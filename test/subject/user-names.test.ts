import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { trustedIssuerSchema } from '../../src/config/tenant.ts'
import { createFingerprint } from '../../src/foundation/crypto/fingerprint.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { createNamedCheck, type NamedCheck } from '../../src/flows/revocation/named.ts'
import type { Store } from '../../src/foundation/store/store.ts'
import { createNameRecorder, createUserDirectory } from '../../src/identity/subject/user-names.ts'
import { aSnapshot, aTenant } from '../support/snapshot.ts'
import { borrowStore, type BorrowedStore } from '../support/stores.ts'

const ISSUER = trustedIssuerSchema.parse({ issuer: 'https://idp.example', claims: { display: 'preferred_username' } })
const [ALICE, MALLORY] = ['7c3e-alice', '9f1b-mallory']
const fingerprint = createFingerprint(new Secret(Buffer.alloc(32, 1).toString('base64')))

describe('names of users in the commands of an admin', () => {
  let borrowed: BorrowedStore
  let store: Store
  let check: NamedCheck
  let now: number
  let written: Promise<unknown>[]
  let see: (sub: string, name?: string, tenant?: string) => Promise<unknown>
  beforeEach(async () => {
    borrowed = await borrowStore()
    store = borrowed.store
    now = 1_000_000
    written = []
    const names = store.userNames
    const record = createNameRecorder({
      names,
      fingerprint,
      clock: { now: () => now },
      inBackground: (work) => written.push(work),
    })
    see = (sub, name, tenant = 'acme') => {
      record(tenant, ISSUER, { sub, ...(name === undefined ? {} : { preferred_username: name }) })
      return Promise.all(written)
    }
    check = createNamedCheck({
      snapshot: () => ({
        ...aSnapshot(),
        tenants: new Map(['acme', 'globex'].map((tenant) => [tenant, aTenant({ tenant })])),
      }),
      store,
      users: createUserDirectory({ names, fingerprint }),
    })
  })
  afterEach(() => borrowed.close())

  it('fault 72: one user is found by the last name, whatever its Unicode form, and by the id as ever', async () => {
    await see(ALICE, 'ren\u00e9e@company.example')
    for (const name of ['ren\u00e9e@company.example', 'rene\u0301e@company.example', ALICE])
      expect(await check.user('acme', name, false)).toBe(ALICE)
    expect(await check.scope({ kind: 'user', tenant: 'acme', user: 'ren\u00e9e@company.example' }, false)).toEqual({
      kind: 'user',
      tenant: 'acme',
      user: ALICE,
    })
    await see(ALICE, 'renee.smith@company.example')
    expect(await check.user('acme', 'renee.smith@company.example', false)).toBe(ALICE)
    await expect(check.user('acme', 'ren\u00e9e@company.example', false)).rejects.toMatchObject({
      code: 'user_unknown',
    })
    await expect(check.user('globex', 'renee.smith@company.example', false)).rejects.toMatchObject({
      code: 'user_unknown',
    })
  })

  it('fault 72, promise 4: a name of several users is refused with their ids, and a name never wins over an id', async () => {
    await see(ALICE, 'alice')
    await see(MALLORY, 'alice')
    await expect(check.user('acme', 'alice', false)).rejects.toMatchObject({
      code: 'user_ambiguous',
      message: expect.stringContaining(`${ALICE} of acme, ${MALLORY} of acme`) as string,
    })
    // A user who calls herself by the id of another.
    await see(MALLORY, ALICE)
    expect(await check.user('acme', ALICE, false)).toBe(ALICE)
    await see(MALLORY, 'bob')
    await store.disabledUsers.add({ tenant: 'acme', user: 'bob', at: 1, by: 'test' })
    expect(await check.user('acme', 'bob', false)).toBe('bob')
    // Of the user nothing is known but a name that a token gave.
    await see('carol', 'Carol')
    await see(MALLORY, 'carol')
    expect(await check.user('acme', 'carol', false)).toBe('carol')
    // Whoever writes it with --force means an id.
    await see(MALLORY, 'dave')
    expect(await check.user('acme', 'dave', false)).toBe(MALLORY)
    expect(await check.user('acme', 'dave', true)).toBe('dave')
  })

  it('fault 72, promise 4: a name that people take for that of another user is refused with the ids of both', async () => {
    await see(ALICE, 'Alice Smith')
    for (const name of [
      'alice smith',
      'Alice Smith ',
      'Ali\u200bce Smith',
      '\uff21lice Smith',
      'Al\u{e0061}ice Smith',
    ]) {
      await see(MALLORY, name)
      await expect(check.user('acme', 'Alice Smith', false), name).rejects.toMatchObject({ code: 'user_ambiguous' })
      await expect(check.user('acme', name, false), name).rejects.toMatchObject({ code: 'user_ambiguous' })
    }
    await see(MALLORY, 'mallory')
    for (const typed of ['alice smith', 'ALICE SMITH']) expect(await check.user('acme', typed, false)).toBe(ALICE)
    // Nor is the id of one in another case taken for the name that another has chosen.
    await store.disabledUsers.add({ tenant: 'acme', user: 'bob', at: 1, by: 'test' })
    await see(MALLORY, 'Bob')
    await expect(check.user('acme', 'Bob', false)).rejects.toMatchObject({
      code: 'user_ambiguous',
      message: expect.stringContaining('bob of acme') as string,
    })
    expect(await check.user('acme', 'bob', false)).toBe('bob')
  })

  it('fault 72: a row that another program writes into the table names nobody', async () => {
    await see(MALLORY, 'mallory')
    const { name } = (
      await store.userNames.list({ name: fingerprint(new Secret(JSON.stringify(['user name', 'mallory']))) })
    )[0]!
    await store.userNames.put({ tenant: 'acme', user: ALICE, name, proof: 'forged', seenAt: now })
    expect(await check.user('acme', 'mallory', false)).toBe(MALLORY)
  })

  it('fault 72: what is listed by a name is that of the user; over all tenants the name has to be of one user', async () => {
    await see(ALICE, 'alice@company.example')
    expect(await check.filter({ user: 'alice@company.example' })).toEqual({ tenant: 'acme', user: ALICE })
    expect(await check.filter({ user: 'nobody', server: 'notes' })).toEqual({ user: 'nobody', server: 'notes' })
    expect(await check.filter({ tenant: 'globex', user: 'alice@company.example' })).toEqual({
      tenant: 'globex',
      user: 'alice@company.example',
    })
    await see('other', 'alice@company.example', 'globex')
    await expect(check.filter({ user: 'alice@company.example' })).rejects.toMatchObject({ code: 'user_ambiguous' })
  })

  it('fault 72: a name is written once a day, and when it changes; a token without one changes nothing', async () => {
    await see(ALICE, 'alice')
    await see(ALICE, 'alice')
    await see(ALICE)
    expect(written).toHaveLength(1)
    now += 86_400_000
    await see(ALICE, 'alice')
    await see(ALICE, 'alicia')
    expect(written).toHaveLength(3)
  })
})
