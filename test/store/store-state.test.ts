import { expect, it } from 'vitest'
import { historyState, orUnread } from '../../src/daemon/store-state.ts'
import { refuse } from '../../src/errors.ts'

const away = refuse('store_unavailable', { problem: 'no answer' })

it('fault 104: the status never says that all is well while losses, or the nodes, cannot be read', async () => {
  expect(await historyState({ open: () => Promise.reject(away) })).toContain(
    'cannot be asked: The store did not answer',
  )
  expect(await orUnread(Promise.reject(away))).toContain('no answer')
  expect(await historyState({ open: () => Promise.resolve([]) })).toBe('ok')
  const loss = { id: 'l', node: 'one', at: 0, detail: { problem: 'records 3 to 5 are gone' } }
  expect(await historyState({ open: () => Promise.resolve([loss, loss]) })).toMatch(
    /node one noticed at 1970-\S+ \(and 1 more\): records 3 to 5 are gone; see deputy store losses/,
  )
})
