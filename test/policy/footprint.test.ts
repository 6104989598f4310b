import { readFileSync } from 'node:fs'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { cedar, createPolicy } from '../../src/identity/policy/cedar.ts'
import type { PolicyQuestion } from '../../src/identity/policy/decision.ts'
import { footprintOf, type Footprint } from '../../src/identity/policy/footprint.ts'
import { claimsRead } from '../../src/identity/policy/question.ts'
import { toCedar } from '../../src/identity/policy/question.ts'

const schema = readFileSync(new URL('../../policies/access/schema.cedarschema', import.meta.url), 'utf8')
const everything: Footprint = {
  readsContext: () => true,
  readsClaim: () => true,
  claimPaths: [],
  readsAttribute: () => true,
  readsGroups: true,
  readsUser: true,
}

const names = fc.constantFrom('a', 'b', 'c')
const optional = (arbitrary: fc.Arbitrary<string>) => fc.option(arbitrary, { nil: undefined })

const question: fc.Arbitrary<PolicyQuestion> = fc
  .record({
    user: fc.boolean(),
    tenant: names,
    name: names,
    groups: fc.uniqueArray(names),
    claims: fc.dictionary(names, fc.oneof(names, fc.array(names), fc.integer())),
    action: fc.constantFrom('oauth_grant' as const, 'minted' as const, 'static' as const),
    server: names,
    owner: names,
    team: optional(names),
    downstream: names,
    scopes: fc.uniqueArray(names, { minLength: 1, maxLength: 1 }),
    tool: optional(names),
    acr: optional(names),
    client: optional(names),
    narrows: fc.uniqueArray(names),
    environment: names,
    now: fc.integer({ min: 1.7e12, max: 1.8e12 }),
  })
  .map(({ user, name, groups, claims, server, owner, team, downstream, tool, acr, client, tenant, ...rest }) => ({
    ...rest,
    tenant,
    principal: user ? { kind: 'user', tenant, user: name, groups, claims } : { kind: 'workload', tenant },
    server: { id: server, owner, status: 'approved', ...(team === undefined ? {} : { team }) },
    downstream: { id: downstream },
    ...(tool === undefined ? {} : { tool }),
    ...(acr === undefined ? {} : { acr }),
    ...(client === undefined ? {} : { client: { id: client, known: 'registered' } }),
  }))

const quoted = (text: string): string => JSON.stringify(text)
const scope = fc.oneof(
  fc.constant('principal'),
  fc.constant('principal is Deputy::User'),
  names.map((name) => `principal == Deputy::User::"a/${name}"`),
  names.map((name) => `principal in Deputy::Group::"a/${name}"`),
  names.map((name) => `principal in Deputy::Tenant::${quoted(name)}`),
  names.map((name) => `principal in Deputy::Team::${quoted(name)}`),
  names.map((name) => `principal == Deputy::Workload::${quoted(name)}`),
)
const condition = fc.oneof(
  names.map((name) => `context.scopes.contains(${quoted(name)})`),
  names.map((name) => `context has tool && context.tool == ${quoted(name)}`),
  names.map((name) => `context has acr && context.acr == ${quoted(name)}`),
  names.map((name) => `context has client && context.client.id == ${quoted(name)}`),
  fc.constant('context has client.known && context.client.known != "registered"'),
  names.map((name) => `context.environment == ${quoted(name)}`),
  names.map((name) => `context.narrows.contains(${quoted(name)})`),
  names.map((name) => `context.workload.owner == ${quoted(name)}`),
  names.map((name) => `context.workload in Deputy::Team::${quoted(name)}`),
  names.map((name) => `context.tenant == Deputy::Tenant::${quoted(name)}`),
  fc.constant('context.time < datetime("2025-06-01")'),
  names.map((name) => `principal is Deputy::User && principal.tenant == Deputy::Tenant::${quoted(name)}`),
  fc
    .tuple(names, names)
    .map(
      ([tag, value]) =>
        `principal is Deputy::User && principal.hasTag(${quoted(tag)}) && principal.getTag(${quoted(tag)}).contains(${quoted(value)})`,
    ),
  names.map(
    (value) =>
      `principal is Deputy::User && principal.hasTag(context.environment) && principal.getTag(context.environment).contains(${quoted(value)})`,
  ),
  names.map((name) => `[Deputy::User::"a/${name}"].contains(principal)`),
)
const policy = fc
  .tuple(
    fc.constantFrom('permit', 'permit', 'forbid'),
    scope,
    fc.array(fc.tuple(fc.constantFrom('when', 'unless'), condition), { maxLength: 2 }),
  )
  .map(
    ([effect, principal, conditions]) =>
      `${effect}(${principal}, action, resource) ${conditions.map(([kind, body]) => `${kind} { ${body} }`).join(' ')};`,
  )

const footprint = (texts: readonly string[]): Footprint =>
  footprintOf(
    texts.map((text) => {
      const read = cedar.policyToJson(text)
      if (read.type === 'failure') throw new Error(`${text}: ${JSON.stringify(read.errors)}`)
      return read.json
    }),
  )

/** Everything that is known, checked against the schema, decided by Cedar without anything remembered. */
const decideWhole = (texts: readonly string[], asked: PolicyQuestion): { allowed: boolean; policies: string[] } => {
  const { principal, action, resource, entities, contextWith } = toCedar(asked, everything)
  const answer = cedar.isAuthorized({
    principal,
    action,
    resource,
    entities,
    context: contextWith(asked.scopes),
    schema,
    validateRequest: true,
    policies: { staticPolicies: Object.fromEntries(texts.map((text, at) => [String(at), text])) },
  })
  if (answer.type === 'failure') throw new Error(JSON.stringify(answer.errors))
  return { allowed: answer.response.decision === 'allow', policies: answer.response.diagnostics.reason.toSorted() }
}

describe('what policies look at', () => {
  it('promise 1: facts that no policy reads are left out, and what is remembered is told again, without changing any decision', () => {
    let sets = 0
    fc.assert(
      fc.property(
        fc.array(policy, { minLength: 1, maxLength: 5 }),
        fc.array(question, { minLength: 1, maxLength: 12 }),
        (texts, questions) => {
          const set = `set ${(sets += 1)}`
          expect(
            cedar.preparsePolicySet(set, {
              staticPolicies: Object.fromEntries(texts.map((text, at) => [String(at), text])),
            }).type,
          ).toBe('success')
          const deciding = createPolicy(set, footprint(texts))
          for (const asked of [...questions, ...questions]) {
            const { allowed, policies } = deciding.decide(asked)
            expect({ allowed, policies }).toEqual(decideWhole(texts, asked))
          }
        },
      ),
      // Compiling a set of policies is what costs.
      { numRuns: 50 },
    )
  })

  it('fault 71: nested claims are read by their paths, and decide', () => {
    const footprintOf = footprint([
      'forbid(principal is Deputy::User, action, resource) when { principal.hasTag("realm_access.roles") && principal.getTag("realm_access.roles").contains("guest") };',
    ])
    expect(footprintOf.claimPaths).toEqual(['realm_access.roles'])
    expect(claimsRead({ sub: 'alice', realm_access: { roles: ['guest'] } }, footprintOf)).toEqual([
      ['realm_access.roles', ['guest']],
    ])
    // A claim of that very name comes first, as in the mapping of a tenant.
    expect(claimsRead({ 'realm_access.roles': ['a'], realm_access: { roles: ['b'] } }, footprintOf)).toEqual([
      ['realm_access.roles', ['a']],
    ])
    expect(claimsRead({ realm_access: 'none' }, footprintOf)).toEqual([])
  })

  it('names what is read, and counts as reading all what is read without a name', () => {
    const some = footprint([
      'permit(principal, action, resource) when { context has tool && context.tool == "x" && principal is Deputy::User && principal.hasTag("dept") };',
    ])
    expect([
      some.readsContext('tool'),
      some.readsContext('time'),
      some.readsClaim('dept'),
      some.readsClaim('jti'),
      some.readsUser,
    ]).toEqual([true, false, true, false, false])
    const all = footprint([
      'permit(principal == Deputy::User::"a/b", action, resource) when { (if true then context else context).tool == "x" && principal.hasTag(context.environment) };',
    ])
    expect([all.readsContext('time'), all.readsClaim('jti'), all.readsUser]).toEqual([true, true, true])
  })

  it('Entra: a user whose groups or claims the issuer leaves out is refused where a policy decides by them, and only there', () => {
    const permit = 'permit(principal is Deputy::User, action, resource);'
    const forbidGroup = 'forbid(principal in Deputy::Group::"a/contractors", action, resource);'
    const forbidTag =
      'forbid(principal is Deputy::User, action, resource) when { principal.hasTag("groups") && principal.getTag("groups").contains("c") };'
    const forbidNested = forbidTag.replaceAll('"groups"', '"realm_access.roles"')
    let sets = 0
    const outcome = (texts: readonly string[], omitted: { claims: string[]; groups: boolean } | undefined): unknown => {
      const set = `omitted ${(sets += 1)}`
      cedar.preparsePolicySet(set, { staticPolicies: Object.fromEntries(texts.map((text, at) => [`p${at}`, text])) })
      try {
        return createPolicy(set, footprint(texts)).decide({
          principal: {
            kind: 'user',
            tenant: 'a',
            user: 'b',
            groups: [],
            claims: {},
            ...(omitted === undefined ? {} : { omitted }),
          },
          action: 'minted',
          server: { id: 's', owner: 'o', status: 'approved' },
          downstream: { id: 'd' },
          tenant: 'a',
          scopes: [],
          environment: 'test',
          narrows: [],
          now: 0,
        }).allowed
      } catch (error) {
        return (error as { code: string }).code
      }
    }
    const groups = { claims: ['groups'], groups: true }
    expect(outcome([permit, forbidGroup], undefined)).toBe(true)
    expect(outcome([permit, forbidGroup], groups)).toBe('subject_claims_omitted')
    expect(outcome([permit], groups)).toBe(true)
    // Groups are mapped from another claim, such as app roles.
    expect(outcome([permit, forbidGroup], { ...groups, groups: false })).toBe(true)
    expect(outcome([permit, forbidTag], { ...groups, groups: false })).toBe('subject_claims_omitted')
    expect(outcome([permit, forbidTag], { claims: ['other'], groups: false })).toBe(true)
    expect(outcome([permit, forbidNested], { claims: ['realm_access'], groups: false })).toBe('subject_claims_omitted')
  })

  it('promise 9: a claim that is no Unicode is a denial that says why, not a failure', () => {
    const text = 'permit(principal, action, resource) when { principal is Deputy::User && principal.hasTag("dept") };'
    cedar.preparsePolicySet('surrogate', { staticPolicies: { only: text } })
    const decision = createPolicy('surrogate', footprint([text])).decide({
      principal: { kind: 'user', tenant: 'a', user: 'b\ud800', groups: [], claims: { dept: '\udfff' } },
      action: 'minted',
      server: { id: 's', owner: 'o', status: 'approved' },
      downstream: { id: 'd' },
      tenant: 'a',
      scopes: [],
      environment: 'test',
      narrows: [],
      now: 0,
    })
    expect(decision).toMatchObject({ allowed: false, errors: [expect.stringContaining('could not be put')] })
  })
})
