import * as fc from 'fast-check'
import { expect, it } from 'vitest'
import { createSystemRandom } from '../../src/clock.ts'
import { createTimeOrderedIds } from '../../src/foundation/crypto/time-ordered-id.ts'

const MAX = 2 ** 48 - 1
const ALPHABET = '0123456789abcdefghjkmnpqrstvwxyz'
const TIME = 10
const idAt = (time: number, bytes: Uint8Array): string =>
  createTimeOrderedIds({ clock: { now: () => time }, random: { bytes: () => bytes } })()
const numberOf = (text: string): bigint =>
  Array.from(text).reduce((value, character) => value * 32n + BigInt(ALPHABET.indexOf(character)), 0n)

it('ids sort as their times do, in every collation, and hold the time and all of the randomness', () => {
  const anId = fc.record({
    time: fc.integer({ min: 0, max: MAX }),
    bytes: fc.uint8Array({ minLength: 10, maxLength: 10 }),
  })
  const english = new Intl.Collator('en')
  fc.assert(
    fc.property(anId, anId, (a, b) => {
      const [first, second] = [idAt(a.time, a.bytes), idAt(b.time, b.bytes)]
      expect(first).toMatch(/^[0-7][0-9a-hjkmnp-tv-z]{25}$/)
      expect(numberOf(first.slice(0, TIME))).toBe(BigInt(a.time))
      expect(numberOf(first.slice(TIME))).toBe(BigInt(`0x${Buffer.from(a.bytes).toString('hex')}`))
      if (a.time < b.time) {
        expect(first < second).toBe(true)
        expect(english.compare(first, second)).toBeLessThan(0)
      }
    }),
  )
})

it('ids of one moment differ, and a clock that goes back or out of range gives ids all the same', () => {
  let now = 1_795_000_000_000
  const newId = createTimeOrderedIds({ clock: { now: () => now }, random: createSystemRandom() })
  const ids = Array.from({ length: 5000 }, newId)
  expect(new Set(ids).size).toBe(ids.length)
  expect(new Set(ids.map((id) => id.slice(0, TIME))).size).toBe(1)
  now -= 1
  expect(newId() < ids[0]!).toBe(true)
  now = -5
  expect(newId()).toMatch(/^0{10}/)
  now = 2 ** 60
  expect(newId()).toMatch(/^7z{9}/)
})
