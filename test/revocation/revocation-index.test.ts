import { expect, it } from 'vitest'
import { RevocationIndex } from '../../src/identity/validity/revocation-index.ts'

it('fault 6, promise 4: a revocation covers what was obtained before it by their numbers, also where the clock was ahead then', () => {
  const revocationIndex = new RevocationIndex([], [])
  const revoke = (number: number): void => {
    revocationIndex.add({
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
  expect(revocationIndex.findRevocation({ ...obtained, known: revocationIndex.number })).toBeUndefined()
  const known = revocationIndex.number
  revoke(2)
  expect(revocationIndex.findRevocation({ ...obtained, known })?.number).toBe(2)
  expect(revocationIndex.findRevocation({ ...obtained, known: revocationIndex.number })).toBeUndefined()
  expect(revocationIndex.findRevocation({ ...obtained, user: 'bob', known })).toBeUndefined()
})
