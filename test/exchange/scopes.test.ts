import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { downstreamSchema } from '../../src/config/downstream.ts'
import { DeputyError } from '../../src/errors.ts'
import { scopesWithin } from '../../src/flows/exchange/scopes.ts'
import { assertToolScopes, missingFor } from '../../src/flows/exchange/tool.ts'
import { explainPolicy } from '../../src/listeners/admin-api/policy-question.ts'
import { aServer, aSnapshot, aTenant } from '../support/snapshot.ts'

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

  const server = aServer({
    downstreams: { d: { scopes: ['read', 'write'] } },
    tools: {
      reads: { downstream: 'd', scopes: ['read'] },
      elsewhere: { downstream: 'other', scopes: ['read'] },
      admin: { downstream: 'd', scopes: ['write'], requires: ['admin', 'books'] },
    },
  })
  const target = { downstream, registered: new Set(['read', 'write']) }
  const codeOf = (work: () => unknown): string => {
    try {
      return JSON.stringify(work())
    } catch (error) {
      return (error as DeputyError).code
    }
  }

  it('fault 78, promise 1: a tool narrows, and one that is misspelt or of another downstream gets nothing', () => {
    const of = (tool: string | undefined, tools = server.tools) =>
      codeOf(() => scopesWithin(undefined, target, { ...server, tools }, tool))
    expect(of('reads')).toBe('["read"]')
    expect(of('read')).toBe('tool_unknown')
    expect(of('toString')).toBe('tool_unknown')
    expect(of('elsewhere')).toBe('tool_other_target')
    expect(of(undefined)).toBe('["read","write"]')
    // A file that lists none says nothing of any, and one may say what others get.
    expect(of('read', {})).toBe('["read","write"]')
    expect(of('read', aServer({ tools: { '*': { downstream: 'd', scopes: ['read'] } } }).tools)).toBe('["read"]')
  })

  it("fault 77, promise 1: what a tool requires of the user's own token is asked for in the exchange", () => {
    const of = (tool: string, subject: { scopes?: string[] } | undefined) =>
      codeOf(() => {
        assertToolScopes(server, tool, subject)
        return 'passed'
      })
    expect(of('admin', { scopes: ['admin', 'books'] })).toBe('"passed"')
    expect(of('reads', {})).toBe('"passed"')
    // A token without scopes, a login session, and the server itself.
    for (const subject of [{ scopes: ['admin'] }, {}, undefined])
      expect(of('admin', subject)).toBe('insufficient_scope')
    expect(of('adm1n', { scopes: ['admin', 'books'] })).toBe('tool_unknown')
    expect(missingFor(server.tools['admin']!, { scopes: ['books'] })).toEqual(['admin'])
  })

  it('fault 77: deputy policy explain says that a tool requires more than policy', () => {
    const snapshot = {
      ...aSnapshot({ servers: [server], tenants: [aTenant()] }),
      downstreams: new Map([['d', downstream]]),
    }
    const policy = {
      decide: ({ scopes: asked }: { scopes: string[] }) => ({ allowed: true, scopes: asked, policies: [] }),
    }
    const explained = (tool: string) =>
      explainPolicy(
        { server: server.server, tenant: 'acme', user: 'alice', groups: [], claims: {}, downstream: 'd', tool },
        snapshot,
        policy as never,
        0,
      )
    expect(explained('admin')).toMatchObject({ scopes: ['write'], note: expect.stringContaining('admin books') })
    expect(explained('reads')).not.toHaveProperty('note')
  })
})
