import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { downstreamSchema } from '../../src/config/downstream.ts'
import { DeputyError } from '../../src/errors.ts'
import { scopesWithin } from '../../src/exchange/scopes.ts'
import { aServer } from '../support/snapshot.ts'

const scope = fc.constantFrom('read', 'write', 'admin', 'delete')
const scopes = fc.uniqueArray(scope)
const downstream = downstreamSchema.parse({ downstream: 'd', credential: 'minted', resource: 'https://d.example' })

describe('the scopes that policy is asked about', () => {
  it('promise 1: are never beyond what was asked, what the server is registered for and what the tool needs', () => {
    fc.assert(
      fc.property(
        fc.option(fc.array(scope), { nil: undefined }),
        scopes,
        fc.option(scopes, { nil: undefined }),
        (asked, registered, tool) => {
          const server = aServer({
            downstreams: { d: { scopes: registered } },
            ...(tool === undefined ? {} : { tools: { t: { downstream: 'd', scopes: tool } } }),
          })
          const target = { downstream, registered: new Set(registered) }
          let within: string[]
          try {
            within = scopesWithin(asked, target, server, 't')
          } catch (error) {
            expect(error).toBeInstanceOf(DeputyError)
            expect((error as DeputyError).code).toBe('scope_not_available')
            expect(
              (asked ?? tool ?? registered).filter(
                (each) => registered.includes(each) && (tool?.includes(each) ?? true),
              ),
            ).toEqual([])
            return
          }
          for (const each of within) {
            expect(registered).toContain(each)
            if (asked !== undefined) expect(asked).toContain(each)
            if (tool !== undefined) expect(tool).toContain(each)
          }
          expect(within).toEqual([...new Set(within)].sort())
        },
      ),
      { numRuns: 1000 },
    )
  })

  it("of another downstream's tool are not narrowed by it", () => {
    const server = aServer({
      downstreams: { d: { scopes: ['read'] } },
      tools: { t: { downstream: 'other', scopes: [] } },
    })
    expect(scopesWithin(['read'], { downstream, registered: new Set(['read']) }, server, 't')).toEqual(['read'])
  })
})
