import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { downstreamSchema } from '../../src/config/downstream.ts'
import { fillIn } from '../../src/config/provider.ts'
import { DeputyError } from '../../src/errors.ts'
import { scopesWithin } from '../../src/flows/exchange/scopes.ts'
import { createServerView } from '../../src/flows/exchange/server-view.ts'
import { resolveTarget } from '../../src/flows/exchange/target.ts'
import { ownValue } from '../../src/foundation/text/own-value.ts'
import { readUsage } from '../../src/identity/workload/usage.ts'
import { aServer, aSnapshot } from '../support/snapshot.ts'

/** Names that every plain object answers to. */
const inherited = fc.constantFrom(...Object.getOwnPropertyNames(Object.prototype))
const downstream = downstreamSchema.parse({ downstream: 'd', credential: 'minted', resource: 'https://d.example' })
const server = aServer({
  downstreams: { d: { scopes: ['read', 'write'] } },
  tools: { t: { downstream: 'd', scopes: ['read'] } },
})
const snapshot = { ...aSnapshot({ servers: [server] }), downstreams: new Map([['d', downstream]]) }

const codeOf = (work: () => unknown): string => {
  try {
    work()
  } catch (error) {
    if (error instanceof DeputyError) return error.code
    throw error
  }
  return 'none'
}

describe('fault 38: names that a plain object answers to by itself', () => {
  it('fault 38, promise 1: as a tool they are like any tool that is not registered', () => {
    const target = { downstream, registered: new Set(['read', 'write']) }
    fc.assert(
      fc.property(inherited, (tool) => {
        expect(codeOf(() => scopesWithin(undefined, target, server, tool))).toBe('tool_unknown')
      }),
    )
  })

  it('fault 38, promise 1: as a downstream they are unknown', () => {
    fc.assert(
      fc.property(inherited, (name) => {
        expect(
          codeOf(() =>
            resolveTarget(
              { audiences: [name], resources: [] },
              { server, uses: server.downstreams, tenant: 'acme', snapshot },
            ),
          ),
        ).toBe('target_unknown')
      }),
    )
  })

  it('fault 38: a tool of such a name in a file is seen as it is written, and a call of one is not taken for registered', async () => {
    for (const name of Object.getOwnPropertyNames(Object.prototype)) {
      const own = aServer({ tools: Object.fromEntries([[name, { requires: ['x'] }]]) })
      const view = createServerView({
        snapshot: () => aSnapshot({ servers: [own] }),
        attest: () => Promise.resolve({ server: own } as never),
        subjectState: { introspect: () => Promise.resolve({ active: false }) } as never,
        subjects: undefined as never,
        policy: () => undefined as never,
        issuer: () => 'https://deputy.example',
        clock: { now: () => 0, elapsed: () => 0 } as never,
      })
      const described = await view.describe({ correlationId: 'x', evidence: {} } as never)
      // YAML files are read into objects without this one name.
      if (name !== '__proto__')
        expect([name, described]).toMatchObject([name, { tools: { [name]: { requires: ['x'] } } }])

      const row = {
        seq: 1,
        at: 1,
        event: 'token.exchange',
        outcome: 'issued',
        server: 'notes',
        user: 'alice',
        tenant: 'acme',
      }
      const usage = await readUsage({
        audit: {
          chains: () => Promise.resolve(['n']),
          query: () =>
            Promise.resolve([{ ...row, body: JSON.stringify({ detail: { asked: { tool: name } } }) } as never]),
        },
        servers: new Map([['notes', server]]),
        since: 0,
      })
      expect(usage.filter(({ tool, calls }) => tool === name && calls > 0).map(({ state }) => state)).toEqual([
        'unregistered',
      ])
    }
  })

  it('fault 38: a placeholder of such a name is filled from the file only', () => {
    fc.assert(
      fc.property(inherited, (name) => {
        expect(ownValue({}, name)).toBeUndefined()
        expect(fillIn('https://{constructor}.example', {})).toBe('https://{constructor}.example')
      }),
    )
  })
})
