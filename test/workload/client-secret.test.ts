import { beforeAll, describe, expect, it } from 'vitest'
import { createSystemRandom } from '../../src/clock.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { createClientSecretCheck, hashClientSecret } from '../../src/identity/workload/client-secret.ts'

const random = createSystemRandom()
/** What a check costs has no part in who waits for whom. */
const CHEAP = { N: 2 ** 13, r: 8, p: 1 }
const outcome = (work: Promise<boolean>): Promise<string> => work.then(String, (error: { code: string }) => error.code)

describe('fault 22: checks of client secrets', () => {
  let stored: string
  beforeAll(async () => {
    stored = await hashClientSecret(new Secret('right'), random)
  })

  it('wrong secrets of other clients, and of ids that no client has, lock no client out', async () => {
    const check = createClientSecretCheck(random, CHEAP)
    const cheap = await hashClientSecret(new Secret('right'), random, CHEAP)
    const guesses = Array.from({ length: 40 }, (_, at) => outcome(check(new Secret(`guess ${at}`), cheap, 'attacked')))
    const unknown = Array.from({ length: 200 }, (_, at) => outcome(check(new Secret('x'), undefined, `made-up ${at}`)))
    const began = performance.now()
    const order: string[] = []
    for (const each of guesses) void each.then((code) => order.push(code))
    expect(await outcome(check(new Secret('right'), cheap, 'honest'))).toBe('true')
    // It waits for a few turns, whatever number of others waits.
    expect(order.filter((code) => code === 'false').length).toBeLessThan(4)
    expect(performance.now() - began).toBeLessThan(20_000)
    const codes = await Promise.all(guesses)
    expect(new Set(codes)).toEqual(new Set(['false', 'rate_limited']))
    expect(codes.filter((code) => code === 'false')).toHaveLength(17)
    expect(new Set(await Promise.all(unknown))).toEqual(new Set(['false']))
  }, 120_000)

  it('fault 80: a hundred equal checks at one moment are one check', async () => {
    const check = createClientSecretCheck(random)
    const began = performance.now()
    expect(await check(new Secret('right'), stored, 'first')).toBe(true)
    const single = performance.now() - began
    const again = createClientSecretCheck(random)
    const start = performance.now()
    const all = await Promise.all(Array.from({ length: 100 }, () => again(new Secret('right'), stored, 'notes')))
    expect(new Set(all)).toEqual(new Set([true]))
    expect(performance.now() - start).toBeLessThan(single * 10)
  })

  it('an id that no client has costs as much as a wrong secret, and is never right', async () => {
    const check = createClientSecretCheck(random)
    const time = async (work: () => Promise<boolean>): Promise<number> => {
      const began = performance.now()
      expect(await work()).toBe(false)
      return performance.now() - began
    }
    const known = await time(() => check(new Secret('wrong'), stored, 'notes'))
    const unknown = await time(() => check(new Secret('wrong'), undefined, 'nobody'))
    expect(unknown).toBeGreaterThan(known / 4)
    expect(await check(new Secret('nothing'), undefined, 'nobody')).toBe(false)
  })
})
