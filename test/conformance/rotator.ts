import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Secret } from '../../src/crypto/secret.ts'
import type { Rotator } from '../../src/rotation/rotator.ts'

export interface RotatorPlace {
  readonly rotator: Rotator
  /** Works at the target. */
  readonly current: Secret
  /** Cuts the target off. */
  cut(): Promise<void> | void
  /** Takes away what the rotator changes. */
  removeAccount(): Promise<void>
  close(): Promise<void>
}

/** What every rotator does, whatever it changes. */
export const describeRotator = (name: string, start: () => Promise<RotatorPlace>): void => {
  describe(`${name} is a rotator`, () => {
    let place: RotatorPlace
    let next: Secret
    beforeEach(async () => { place = await start(); next = await place.rotator.next(place.current) })
    afterEach(async () => { await place?.close() })
    const logins = async (): Promise<unknown[]> => [await place.rotator.login(place.current), await place.rotator.login(next)]
    const old = (): string => place.rotator.keepsOld ? 'works' : 'refused'

    it('threat 28: finds the next value without touching the target', async () => {
      expect(next.reveal()).not.toBe(place.current.reveal())
      expect(await logins()).toEqual(['works', 'refused'])
      await place.rotator.check?.(place.current, next)
      expect(await logins()).toEqual(['works', 'refused'])
      expect((await place.rotator.next(place.current)).reveal()).not.toBe(next.reveal())
    })

    it('promise 7: applies, as often as it is asked to', async () => {
      for (let times = 0; times < 3; times += 1) {
        await place.rotator.apply(place.current, next)
        expect(await logins()).toEqual([old(), 'works'])
      }
    })

    it('promise 7: ends the old one and no other, as often as it is asked to', async () => {
      await place.rotator.apply(place.current, next)
      for (let times = 0; times < 3; times += 1) {
        await place.rotator.retire(place.current, next)
        expect(await logins()).toEqual(['refused', 'works'])
      }
    })

    it('promise 7: goes on from the new one in the same way', async () => {
      await place.rotator.apply(place.current, next)
      await place.rotator.retire(place.current, next)
      const third = await place.rotator.next(next)
      await place.rotator.apply(next, third)
      await place.rotator.retire(next, third)
      expect([...await logins(), await place.rotator.login(third)]).toEqual(['refused', 'refused', 'works'])
    })

    it('makes the first one where there was none', async () => {
      const first = await place.rotator.next(undefined)
      await place.rotator.apply(undefined, first)
      expect(await place.rotator.login(first)).toBe('works')
    })

    it('finds out that the account does not exist before anything is changed', async () => {
      await place.removeAccount()
      await expect(Promise.resolve(place.rotator.check?.(place.current, next))).rejects.toThrow(/does not exist/)
    })

    it('does not take a target that is away for one that refuses', async () => {
      await place.cut()
      await expect(place.rotator.login(place.current)).rejects.toThrow()
      await expect(place.rotator.apply(place.current, next)).rejects.toThrow()
    })
  })
}
