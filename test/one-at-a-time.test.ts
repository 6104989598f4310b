import { expect, it } from 'vitest'
import { oneAtATime } from '../src/foundation/async/one-at-a-time.ts'

it('a duty that waits for a slow provider begins no second time, and holds up no other duty', async () => {
  const begun: string[] = []
  const slow = Promise.withResolvers<undefined>()
  const duties = [
    oneAtATime(async () => {
      begun.push('slow')
      await slow.promise
    }),
    oneAtATime(() => {
      begun.push('own')
      return Promise.resolve()
    }),
  ]
  const turn = async (): Promise<void> => {
    for (const attend of duties) attend()
    await new Promise(setImmediate)
  }
  await turn()
  await turn()
  expect(begun).toEqual(['slow', 'own', 'own'])
  slow.resolve(undefined)
  await new Promise(setImmediate)
  await turn()
  expect(begun).toEqual(['slow', 'own', 'own', 'slow', 'own'])
})
