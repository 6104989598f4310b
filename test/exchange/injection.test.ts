import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isPathWithin } from '../../src/flows/exchange/injection.ts'

/** How often a service may unescape a path before it looks at it. */
const readings = (path: string): string[] => {
  const all = [path]
  for (let depth = 0; depth < 4; depth += 1)
    try {
      all.push(decodeURIComponent(all.at(-1)!))
    } catch {
      break
    }
  return all
}
/** Where a reading leads, with parent folders followed, in the way of the URL standard. */
const leadsTo = (reading: string): string => new URL(`http://x${reading.replaceAll(/[?#]/g, '_')}`).pathname

describe('a path that is allowed', () => {
  const piece = fc.constantFrom(
    'repos',
    'acme',
    'x',
    'acme-evil',
    '.',
    '..',
    '%2e',
    '%2E%2e',
    '%252e%252e',
    '%2f',
    '%5c',
    '\\',
    '',
    '..;',
    'repo%73',
    'a%20b',
    '%',
    '%zz',
    '%25',
    ' ',
    '...',
  )
  it('promise 5: is below what the file lists, however often a service unescapes it and follows parent folders', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(piece, fc.constantFrom('/', '/', '/', '%2f', '')), { maxLength: 8 }), (pieces) => {
        const path = `/repos/acme/${pieces.map((pair) => pair.join('')).join('')}`
        if (!isPathWithin(path, ['/repos/acme'])) return
        for (const reading of readings(path)) expect(`${leadsTo(reading)}/`.startsWith('/repos/acme/')).toBe(true)
      }),
      { numRuns: 5000 },
    )
  })

  it('is the one that is listed, or below it', () => {
    for (const [path, allowed, within] of [
      ['/repos/acme', ['/repos/acme'], true],
      ['/repos/acme/', ['/repos/acme'], true],
      ['/repos/acme/a%20b/c', ['/repos/acme/'], true],
      ['/anything', ['/'], true],
      ['/', ['/'], true],
      ['/repos/acmeevil', ['/repos/acme'], false],
      ['/repos', ['/repos/acme'], false],
      ['/b', ['/a', '/b'], true],
      ['/botTOKEN/send', ['/botTOKEN'], true],
    ] as const)
      expect([path, isPathWithin(path, allowed)]).toEqual([path, within])
  })
})
