import { expect, it } from 'vitest'
import { createFingerprint } from '../../src/foundation/crypto/fingerprint.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { createIncarnations } from '../../src/foundation/cluster/incarnation.ts'

it('fault 103: an incarnation is known by the key of the installation, and so is when it started', () => {
  const key = createFingerprint(new Secret(Buffer.alloc(32, 1).toString('base64')))
  const [ours, other, without] = [
    createIncarnations('a', key),
    createIncarnations('b', key),
    createIncarnations('a', createFingerprint(new Secret(Buffer.alloc(32, 2).toString('base64')))),
  ]
  const id = ours.idOf(1700, '_drawn-1')
  expect([ours.startOf(id), other.startOf(id), without.startOf(id)]).toEqual([1700, undefined, undefined])
  for (const forged of [
    id.replace('1700', '9999'),
    'a/drawn',
    'a/',
    '',
    `b${id.slice(1)}`,
    id.replace('drawn', 'd'),
    `${id}.z`,
    `${id}/z`,
    `${id} `,
  ])
    expect(ours.startOf(forged)).toBeUndefined()
})

it('promise 4: an acknowledgement is proved by the key, for one incarnation and one change', () => {
  const key = createFingerprint(new Secret(Buffer.alloc(32, 1).toString('base64')))
  const [one, two] = [createIncarnations('a', key), createIncarnations('b', key)]
  const without = createIncarnations('a', createFingerprint(new Secret(Buffer.alloc(32, 2).toString('base64'))))
  const [id, applied] = [one.idOf(1700, 'drawn'), { number: 7, token: 't' }]
  const proof = one.prove(id, applied)
  // Every node can check that of every other.
  expect(two.isProven(id, applied, proof)).toBe(true)
  expect(two.isProven(id, { ...applied, number: 8 }, proof)).toBe(false)
  expect(two.isProven(id, { ...applied, token: 'u' }, proof)).toBe(false)
  expect(two.isProven(two.idOf(1700, 'drawn'), applied, proof)).toBe(false)
  expect(two.isProven(id, applied, without.prove(id, applied))).toBe(false)
  expect(two.isProven(id, applied, null)).toBe(false)
})
