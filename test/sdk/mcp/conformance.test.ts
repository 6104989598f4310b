import { describe, expect, it } from 'vitest'
import { listScenarios, readScenarios, REVISIONS, runRevision, type Kind } from '../../support/conformance.ts'

describe('the conformance suite of MCP', () => {
  it('has no scenario that is neither run nor left out for a reason', async () => {
    const [all, listed] = [await listScenarios(), await readScenarios()]
    for (const kind of Object.keys(listed) as Kind[]) {
      expect(all[kind].length).toBeGreaterThan(0)
      expect(listed[kind].flatMap(({ scenarios }) => scenarios).sort()).toEqual([...all[kind]].sort())
    }
  })

  it.concurrent.each(REVISIONS)(
    'threat 1, requirements 3 and 14: a server behind the middleware, and the example client, pass what applies to them at %s',
    async (revision) => {
      const results = await runRevision(revision)
      expect(results.length).toBeGreaterThan(10)
      expect(results.filter(({ failures }) => failures.length > 0)).toEqual([])
    },
    300_000,
  )
})
