import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import type { RevocationScope } from '../../src/foundation/store/records/revocations.ts'
import type { CredentialDependencies } from '../../src/identity/validity/credential-dependencies.ts'
import {
  describeScope,
  kindOf,
  recordedScopeSchema,
  scopeKey,
  scopeOrderSchema,
  scopesCovering,
} from '../../src/identity/validity/scopes.ts'

// Few names, some of which are made of what separates names in keys.
const name = fc.constantFrom('a', 'b', 'a/1:b', '/1:a', '1:a', 'b/')
const tenant = fc.option(name, { nil: undefined })
const inTenant = (kind: 'server' | 'downstream' | 'provider' | 'issuer' | 'client') =>
  fc
    .record({ value: name, tenant })
    .map(({ value, tenant: within }) => ({ kind, [kind]: value, ...(within === undefined ? {} : { tenant: within }) }))
const anyScope = fc.oneof(
  fc.constant({ kind: 'everything' }),
  fc.record({ kind: fc.constant('tenant'), tenant: name }),
  fc.record({ kind: fc.constant('user'), tenant: name, user: name }),
  inTenant('server'),
  inTenant('downstream'),
  inTenant('provider'),
  inTenant('issuer'),
  inTenant('client'),
  fc.record({ kind: fc.constant('session'), session: name }),
  fc.record({ kind: fc.constant('grant'), grant: name }),
  fc.record({ kind: fc.constant('token'), token: name }),
) as fc.Arbitrary<RevocationScope>

const anyDependencies: fc.Arbitrary<CredentialDependencies> = fc.record({
  tenant: name,
  user: tenant,
  server: name,
  downstreams: fc.array(name, { maxLength: 2 }),
  provider: tenant,
  grant: tenant,
  tokens: fc.array(
    fc.oneof(
      name,
      fc.tuple(name, name).map(([issuer, id]) => `${issuer}#${id}`),
      name.map((client) => `client:${client}`),
      name.map((session) => `session:${session}`),
    ),
    { maxLength: 2 },
  ),
  since: fc.constant(0),
})

/** What each scope covers, said once more without the table. */
const covers = (scope: RevocationScope, on: CredentialDependencies): boolean => {
  const isTenant = !('tenant' in scope) || scope.tenant === undefined || scope.tenant === on.tenant
  switch (scope.kind) {
    case 'everything':
      return true
    case 'tenant':
      return scope.tenant === on.tenant
    case 'user':
      return isTenant && scope.user === on.user
    case 'server':
      return isTenant && scope.server === on.server
    case 'downstream':
      return isTenant && on.downstreams.includes(scope.downstream)
    case 'provider':
      return isTenant && scope.provider === on.provider
    case 'issuer':
      return isTenant && on.tokens.some((token) => token.includes('#') && token.split('#')[0] === scope.issuer)
    case 'grant':
      return scope.grant === on.grant
    case 'client':
      return isTenant && on.tokens.includes(`client:${scope.client}`)
    case 'session':
      return on.tokens.includes(`session:${scope.session}`)
    case 'token':
      return on.tokens.includes(scope.token)
  }
}

test('promise 4: a scope is found for what relies on it, and for nothing else', () => {
  fc.assert(
    fc.property(anyScope, anyDependencies, (scope, dependsOn) => {
      const found = [...scopesCovering(dependsOn)].some((each) => scopeKey(each.scope) === scopeKey(scope))
      expect(found).toBe(covers(scope, dependsOn))
    }),
    { numRuns: 2000 },
  )
})

test('threat 24: two scopes have one key only if they are the same', () => {
  const sorted = (scope: object): string =>
    JSON.stringify(Object.entries(scope).toSorted(([one], [other]) => one.localeCompare(other)))
  fc.assert(
    fc.property(anyScope, anyScope, (one, other) => {
      expect(scopeKey(one) === scopeKey(other)).toBe(sorted(one) === sorted(other))
    }),
    { numRuns: 2000 },
  )
})

test('an order takes exactly one scope, and a record gives back the one that was ordered', () => {
  fc.assert(
    fc.property(anyScope, (scope) => {
      expect(scopeOrderSchema.parse(scope)).toEqual(scope)
      expect(recordedScopeSchema.parse({ ...scope, later: 'member' })).toEqual(scope)
      expect(scopeOrderSchema.safeParse({ ...scope, later: 'member' }).success).toBe(false)
    }),
  )
  expect(recordedScopeSchema.safeParse({ kind: 'user', tenant: 'a', user: 'u'.repeat(400) }).success).toBe(true)
  expect(scopeOrderSchema.safeParse({ kind: 'user', tenant: 'a' }).success).toBe(false)
  expect(scopeOrderSchema.safeParse({ kind: 'planet', planet: 'a' }).success).toBe(false)
})

test('a scope has a name in words, and only that of a tenant ends its key', () => {
  expect(describeScope({ kind: 'user', tenant: 'acme', user: 'alice' })).toBe('user alice of acme')
  expect(describeScope({ kind: 'server', server: 'notes' })).toBe('server notes')
  expect(describeScope({ kind: 'tenant', tenant: 'acme' })).toBe('tenant acme')
  fc.assert(
    fc.property(anyScope, (scope) => {
      expect(kindOf(scope).destroysKeyOf(scope)).toBe(scope.kind === 'tenant' ? scope.tenant : undefined)
    }),
  )
})
