import { beforeAll, afterAll, describe, expect, it } from 'vitest'
import { explore } from './model/explore.ts'
import type { Setting } from './model/run.ts'

/** Two for the backend that says least of what it has; with two everywhere: ROTATION_DISTURBANCES=2 npm test -- test/rotation/model.test.ts */
const given = process.env['ROTATION_DISTURBANCES']
const disturbancesOf = ({ backend, target }: Setting): number =>
  given === undefined ? (target === 'two' && backend === 'aws' ? 2 : 1) : Number(given)

const SETTINGS: readonly Setting[] = (['embedded', 'kv', 'aws'] as const).flatMap((backend) =>
  (['two', 'one', 'asked'] as const).map((target) => ({ backend, target })),
)

describe('every interleaving of a rotation', () => {
  // The stacks of a million refusals are read by nothing.
  const { stackTraceLimit } = Error
  beforeAll(() => {
    Error.stackTraceLimit = 0
  })
  afterAll(() => {
    Error.stackTraceLimit = stackTraceLimit
  })
  for (const setting of SETTINGS)
    it(`fault 41, fault 89, fault 91, promise 7: ${setting.backend}, a target that ${{ two: 'takes two at a time', one: 'takes one at a time', asked: 'chooses' }[setting.target]}`, async () => {
      const disturbances = disturbancesOf(setting)
      const { states, interleavings, ends, violations } = await explore(setting, disturbances)
      const counts = { ...setting, disturbances, states, interleavings, ends }
      process.stdout.write(`${JSON.stringify(counts)}\n`)
      expect(violations).toEqual([])
      expect(ends['done']).toBeGreaterThan(0)
      expect(ends['rolled_back']).toBeGreaterThan(0)
    })
})
