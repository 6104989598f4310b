import { expect, test } from 'vitest'
import { createBackground } from '../../src/foundation/async/background.ts'
import { createHandover } from '../../src/foundation/async/handover.ts'

test('news that comes before its receiver is there is kept in its order, and delivered once', () => {
  const handover = createHandover<[string]>()
  const got: string[] = []
  handover.tell('first')
  handover.tell('second')
  handover.to((news) => got.push(news))
  handover.tell('third')
  expect(got).toEqual(['first', 'second', 'third'])
})

test('work in the background is waited for at the end, and its failure is told and ends nothing', async () => {
  const failures: string[] = []
  const background = createBackground((problem) => failures.push(problem))
  const gate = Promise.withResolvers<void>()
  let isDone = false
  background.start(
    'slow work failed',
    gate.promise.then(() => {
      isDone = true
    }),
  )
  background.start('the other work failed', Promise.reject(new Error('no')))
  const ended = background.ended()
  gate.resolve()
  await ended
  expect(isDone).toBe(true)
  expect(failures).toEqual(['the other work failed'])
})
