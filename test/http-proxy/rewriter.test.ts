import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { formsOf } from '../../src/flows/injected-request/forms.ts'
import {
  createReplacement,
  createRedaction,
  needlesOf,
  type Rewriter,
} from '../../src/flows/injected-request/rewriter.ts'

/** What comes out when the text goes in cut at these places. */
const through = (rewriter: Rewriter, text: Buffer, cuts: readonly number[]): Buffer => {
  const places = [...new Set(cuts.map((cut) => cut % (text.length + 1)))].sort((a, b) => a - b)
  const chunks = [0, ...places].map((from, at) => text.subarray(from, places[at] ?? text.length))
  return Buffer.concat([...chunks.map((chunk) => rewriter.write(chunk)), rewriter.end()])
}

/** The same, said in the plainest way: every byte that belongs to an occurrence is a star. */
const struckWhole = (text: Buffer, needles: readonly Buffer[]): Buffer => {
  const struck = Buffer.from(text)
  for (const needle of needles)
    for (let at = 0; at + needle.length <= text.length; at += 1)
      if (text.compare(needle, 0, needle.length, at, at + needle.length) === 0) struck.fill('*', at, at + needle.length)
  return struck
}

// Few letters, so that texts are full of what is looked for and of its beginnings.
const letters = (least: number, most: number) =>
  fc
    .string({ unit: fc.constantFrom('a', 'b', 'c'), minLength: least, maxLength: most })
    .map((text) => Buffer.from(text))
const cuts = fc.array(fc.nat(), { maxLength: 20 })

describe('a secret is struck out', () => {
  it('threat 27: however the chunks are cut, it never appears and everything else is as it was', () => {
    fc.assert(
      fc.property(
        letters(0, 60),
        fc.array(letters(1, 6), { minLength: 1, maxLength: 3 }),
        cuts,
        (text, needles, at) => {
          expect(through(createRedaction(needlesOf(needles)), text, at).toString()).toBe(
            struckWhole(text, needles).toString(),
          )
        },
      ),
      { numRuns: 2000 },
    )
  })

  it('threat 27: in every form in which a service may repeat it', () => {
    fc.assert(
      fc.property(
        fc.string({ minLength: 8, maxLength: 40, unit: 'grapheme-ascii' }).filter((secret) => !secret.includes('*')),
        fc.string(),
        fc.string(),
        cuts,
        (secret, before, after, at) => {
          const pair = Buffer.from(`${before}:${secret}`)
          const text = Buffer.from(
            [
              before,
              secret,
              encodeURIComponent(secret),
              new URLSearchParams({ k: secret }).toString(),
              JSON.stringify({ [after]: secret }),
              pair.toString('base64'),
              pair.toString('base64url'),
              Buffer.from(secret).toString('base64'),
              after,
            ].join('\n'),
          )
          const shown = through(createRedaction(needlesOf(formsOf([secret]))), text, at).toString('latin1')
          expect(shown).toHaveLength(text.length)
          for (const form of formsOf([secret])) expect(shown.includes(form.toString('latin1'))).toBe(false)
          // Of the base64 of a longer text, the characters that the secret alone decides.
          for (const encoded of shown.split('\n').slice(-4, -1))
            if (/^[A-Za-z0-9+/_=-]+$/.test(encoded)) expect(Buffer.from(encoded, 'base64').includes(secret)).toBe(false)
        },
      ),
      { numRuns: 500 },
    )
  })

  it('an event leaves when it comes: only the last word of a chunk waits', () => {
    const redaction = createRedaction(needlesOf(formsOf(['s3cr3t-value'])))
    expect(redaction.write(Buffer.from('data: hello\n\n')).toString()).toBe('data: hello\n\n')
    expect(redaction.write(Buffer.from('data: wor')).toString()).toBe('data: ')
    expect(redaction.write(Buffer.from('ld\n\n')).toString()).toBe('world\n\n')
    expect(redaction.write(Buffer.from('x'.repeat(1000))).length).toBeGreaterThan(900)
  })

  it('threat 27: how much waits says nothing of what the secret is', () => {
    const hex = fc.string({ unit: fc.constantFrom('0', '1', '2', '9', 'a', 'b', 'f'), minLength: 12, maxLength: 12 })
    fc.assert(
      fc.property(hex, hex, fc.nat(12), cuts, (one, other, known, at) => {
        // A guess that has the beginning of the one right.
        const text = Buffer.from(`it is ${one.slice(0, known)} and ${one.slice(0, known)}`)
        const waits = (secret: string): number[] => {
          const redaction = createRedaction(needlesOf(formsOf([secret])))
          return at.map((cut) => redaction.write(text.subarray(0, cut % (text.length + 1))).length)
        }
        expect(waits(one)).toEqual(waits(other))
      }),
      { numRuns: 500 },
    )
  })
})

describe('a placeholder in a body', () => {
  it('has the value in its place, however the chunks are cut', () => {
    fc.assert(
      fc.property(letters(0, 60), letters(1, 5), fc.string(), cuts, (text, placeholder, value, at) => {
        expect(through(createReplacement(placeholder, Buffer.from(value)), text, at).toString()).toBe(
          text.toString().split(placeholder.toString()).join(value),
        )
      }),
      { numRuns: 2000 },
    )
  })
})
