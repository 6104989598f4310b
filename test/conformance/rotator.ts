import { DeputyError, forAdmins } from '../../src/errors.ts'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import type { Rotator } from '../../src/flows/rotation/rotator.ts'

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
    beforeEach(async () => {
      place = await start()
      next = await valueAfter(place.current)
    })
    afterEach(async () => {
      await place?.close()
    })
    const logins = async (): Promise<unknown[]> => [
      await place.rotator.login(place.current),
      await place.rotator.login(next),
    ]
    const old = (): string => (place.rotator.supportsDualSecrets ? 'works' : 'refused')
    /** What the target is to be told; where it chooses, nobody knows before. */
    const valueAfter = async (current: Secret | undefined): Promise<Secret> =>
      place.rotator.generatedByTarget === true ? new Secret('nobody knows yet') : place.rotator.next(current)
    const apply = async (current: Secret | undefined, value: Secret): Promise<Secret> => {
      if (place.rotator.generatedByTarget === true) return place.rotator.apply(current === undefined ? [] : [current])
      await place.rotator.apply(current, value)
      return value
    }
    const check = async (): Promise<void> => {
      await (place.rotator.generatedByTarget === true
        ? place.rotator.check?.(place.current)
        : place.rotator.check?.(place.current, next))
    }

    it('threat 28: finds the next value without touching the target', async () => {
      if (place.rotator.generatedByTarget === true) {
        await check()
        expect(await place.rotator.login(place.current)).toBe('works')
        return
      }
      expect(next.reveal()).not.toBe(place.current.reveal())
      expect(await logins()).toEqual(['works', 'refused'])
      await check()
      expect(await logins()).toEqual(['works', 'refused'])
      expect((await place.rotator.next(place.current)).reveal()).not.toBe(next.reveal())
    })

    it('promise 7: applies, as often as it is asked to', async () => {
      for (let times = 0; times < 3; times += 1) {
        const given = await apply(place.current, next)
        if (times > 0) expect(given.reveal()).toBe(next.reveal())
        next = given
        expect(await logins()).toEqual([old(), 'works'])
      }
    })

    it('promise 7: ends the old one and no other, as often as it is asked to', async () => {
      next = await apply(place.current, next)
      for (let times = 0; times < 3; times += 1) {
        await place.rotator.retire(place.current, next)
        expect(await logins()).toEqual(['refused', 'works'])
      }
    })

    it('promise 7: goes on from the new one in the same way', async () => {
      next = await apply(place.current, next)
      await place.rotator.retire(place.current, next)
      const third = await apply(next, await valueAfter(next))
      await place.rotator.retire(next, third)
      expect([...(await logins()), await place.rotator.login(third)]).toEqual(['refused', 'refused', 'works'])
    })

    it('makes the first one where there was none', async () => {
      const first = await apply(undefined, await valueAfter(undefined))
      expect(await place.rotator.login(first)).toBe('works')
    })

    it('finds out that the account does not exist before anything is changed', async () => {
      await place.removeAccount()
      const error = await check().catch((thrown: unknown) => thrown)
      expect(error instanceof DeputyError ? forAdmins(error) : String(error)).toMatch(/does not exist/)
    })

    it('does not take a target that is away for one that refuses', async () => {
      await place.cut()
      await expect(place.rotator.login(place.current)).rejects.toThrow()
      await expect(apply(place.current, next)).rejects.toThrow()
    })
  })
}
