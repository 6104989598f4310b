import { describe, expect, it } from 'vitest'
import { differingNodes, fingerprintsOf } from '../../src/config/fingerprints.ts'
import { aServer, aSnapshot, aTenant } from '../support/snapshot.ts'

describe('fault 110: nodes that decide by other files', () => {
  const own = fingerprintsOf(aSnapshot(), { one: 'permit (principal, action, resource);' })
  const nodeWith = (configuration: string | null) => ({ about: 'b', configuration, configuredAt: 0 })

  it('fault 110: the order of members and of files makes no difference, and each part does', () => {
    const servers = new Map(Object.entries({ notes: aServer() }))
    const turned = new Map([['notes', Object.fromEntries(Object.entries(aServer()).toReversed())]]) as typeof servers
    const of = (given: object) => fingerprintsOf({ ...aSnapshot(), ...given }, {})
    expect(of({ servers })).toEqual(of({ servers: turned }))
    expect(of({ servers }).registry).not.toBe(of({ servers: new Map() }).registry)
    expect(of({ tenants: new Map([['acme', aTenant()]]) }).registry).not.toBe(of({ tenants: new Map() }).registry)
    expect(own.policies).not.toBe(
      fingerprintsOf(aSnapshot(), { one: 'forbid (principal, action, resource);' }).policies,
    )
  })

  it('fault 110: says what differs; a row that somebody has written into the store is no more than that', () => {
    expect(differingNodes(own, [nodeWith(JSON.stringify(own)), nodeWith(null)])).toBe('ok')
    expect(differingNodes(own, [nodeWith(JSON.stringify({ ...own, issuer: 'x', policies: 'y' }))])).toBe(
      'the node b has another issuer and other access policies, since 1970-01-01T00:00:00.000Z; give all nodes the same files',
    )
    for (const written of ['', '{', '[]', '{"issuer":{}}'])
      expect(differingNodes(own, [nodeWith(written)])).toContain('what cannot be read')
  })
})
