import { array, assert, nat, property, string, stringMatching } from 'fast-check'
import { describe, expect, it } from 'vitest'
import { didYouMean, nearNames } from '../src/foundation/text/near-names.ts'

const words = array(string({ unit: 'grapheme', maxLength: 20 }), { maxLength: 20 })

describe('near names', () => {
  it('fault 9: a name in another case, with space around, in another Unicode form or with an invisible letter is near', () => {
    for (const wrong of ['Alice', ' alice ', 'ALICE', 'alice\u200b', 'alcie', 'alic', 'alicee', 'ａｌｉｃｅ'])
      expect(nearNames(wrong, ['bob', 'alice', 'carol'])).toEqual(['alice'])
    expect(nearNames('jose\u0301', ['jos\u00e9'])).toEqual(['jos\u00e9'])
    expect(nearNames('nope', ['acme', 'globex'])).toEqual([])
  })

  it('fault 9: says what cannot be seen on a screen', () => {
    expect(didYouMean('jose\u0301', ['jos\u00e9'])).toBe(`Did you mean 'jos<U+00E9>'?`)
    expect(didYouMean('alice', ['alice '])).toBe(`Did you mean 'alice '?`)
    expect(didYouMean('notes', ['billing'])).toBe('')
  })

  it('fault 9: for any names: only known ones, never the name itself, at most three, the same whatever the order', () => {
    assert(
      property(string({ unit: 'grapheme', maxLength: 20 }), words, (name, known) => {
        const near = nearNames(name, known)
        expect(near.length).toBeLessThanOrEqual(3)
        expect(new Set(near).size).toBe(near.length)
        for (const each of near) expect(known.includes(each) && each !== name).toBe(true)
        expect(nearNames(name, [...known].reverse())).toEqual(near)
        expect(didYouMean(name, known)).toMatch(/^[\x20-\x7e]*$/)
      }),
    )
  })

  it('fault 9: for any name: one letter added, left out or swapped, and any other case, finds it', () => {
    const name = stringMatching(/^[a-z0-9]{2,20}$/)
    assert(
      property(name, nat(), (known, seed) => {
        const at = seed % known.length
        const swapped = Array.from(known)
        if (at > 0) [swapped[at - 1], swapped[at]] = [swapped[at]!, swapped[at - 1]!]
        for (const wrong of [
          `${known.slice(0, at)}x${known.slice(at)}`,
          known.slice(0, at) + known.slice(at + 1),
          swapped.join(''),
          known.toUpperCase(),
        ])
          if (wrong !== known) expect(nearNames(wrong, [known])).toEqual([known])
      }),
    )
  })
})
