import { describe, expect, it } from 'vitest'
import type { DeputyError } from '../../src/errors.ts'
import { refuse } from '../../src/errors.ts'
import { createLiveSessionMonitor } from '../../src/identity/validity/live-sessions.ts'
import type { CredentialDependencies } from '../../src/identity/validity/credential-dependencies.ts'
import { RevocationIndex } from '../../src/identity/validity/revocation-index.ts'
import { aServer, aSnapshot } from '../support/snapshot.ts'

const dependsOn: CredentialDependencies = {
  tenant: 'acme',
  user: 'alice',
  server: 'notes',
  downstreams: [],
  grant: 'lease-1',
  tokens: [],
  since: 1000,
}

const world = () => {
  let current = aSnapshot()
  let held = true
  const revocationIndex = new RevocationIndex([], [])
  const uses = createLiveSessionMonitor({
    snapshot: () => current,
    revocationIndex,
    membership: {
      assertHeld() {
        if (!held) throw refuse('membership_lost', { node: 'one', problem: 'test', seconds: 1 })
      },
    },
  })
  const ended: string[] = []
  const add = (about: Partial<CredentialDependencies> = {}) =>
    uses.add({
      dependsOn: { ...dependsOn, ...about },
      end: (error: DeputyError) => {
        ended.push(error.code)
      },
    })
  return {
    revocationIndex,
    uses,
    ended,
    add,
    change(next: typeof current) {
      current = next
    },
    loseLease() {
      held = false
    },
  }
}
const revocation = (scope: Parameters<RevocationIndex['add']>[0]['scope'], epoch = 2000) => ({
  id: 'r',
  scope,
  epoch,
  by: 'admin',
  reason: null,
  forgetAt: null,
})

describe('uses that last', () => {
  it('promise 4: end before a revocation is confirmed, those that it covers and no others', () => {
    const { revocationIndex, ended, add, uses } = world()
    add()
    add({ user: 'bob' })
    const forget = add({ user: 'alice' })
    forget()
    revocationIndex.add(revocation({ kind: 'user', tenant: 'acme', user: 'alice' }))
    expect(ended).toEqual(['revoked'])
    revocationIndex.freeze({ tenant: 'acme', at: 1, by: 'admin', reason: null })
    expect(ended).toEqual(['revoked', 'subject_tenant_frozen'])
    revocationIndex.add(revocation({ kind: 'everything' }))
    expect(ended).toHaveLength(2)
    uses.close()
  })

  it('promise 4: end with their lease, by disabling, and by what files and other nodes say, within a second', async () => {
    for (const [change, code] of [
      [
        ({ revocationIndex }: ReturnType<typeof world>) => {
          revocationIndex.add(revocation({ kind: 'grant', grant: 'lease-1' }))
        },
        'revoked',
      ],
      [
        ({ revocationIndex }: ReturnType<typeof world>) => {
          revocationIndex.disable({ tenant: 'acme', user: 'alice', at: 1, by: 'admin' })
        },
        'subject_user_disabled',
      ],
      [
        ({ change: to }: ReturnType<typeof world>) => {
          to(aSnapshot({ servers: [aServer({ status: 'retired' })] }))
        },
        'workload_not_approved',
      ],
      [
        ({ loseLease }: ReturnType<typeof world>) => {
          loseLease()
        },
        'membership_lost',
      ],
    ] as const) {
      const each = world()
      each.add()
      change(each)
      await expect.poll(() => each.ended, { interval: 20 }).toEqual([code])
      each.uses.close()
    }
  })

  it('promise 4: do not begin on what has ended already', () => {
    const { revocationIndex, add, uses } = world()
    revocationIndex.add(revocation({ kind: 'server', server: 'notes' }))
    expect(() => add()).toThrow(/server notes/)
    uses.close()
  })
})
