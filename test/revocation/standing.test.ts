import { expect, it } from 'vitest'
import { Standing } from '../../src/identity/validity/standing.ts'

it('fault 6, promise 4: a revocation covers what was obtained before it by their numbers, also where the clock was ahead then', () => {
  const standing = new Standing([], [])
  const revoke = (number: number): void => {
    standing.add({
      id: `r${number}`,
      scope: { kind: 'user', tenant: 'acme', user: 'alice' },
      epoch: 1000,
      by: 'admin',
      reason: null,
      forgetAt: null,
      number,
    })
  }
  const obtained = { tenant: 'acme', user: 'alice', server: 'notes', downstreams: [], tokens: [], since: 7_200_000 }
  revoke(1)
  expect(standing.covering({ ...obtained, known: standing.number })).toBeUndefined()
  const known = standing.number
  revoke(2)
  expect(standing.covering({ ...obtained, known })?.number).toBe(2)
  expect(standing.covering({ ...obtained, known: standing.number })).toBeUndefined()
  expect(standing.covering({ ...obtained, user: 'bob', known })).toBeUndefined()
})
