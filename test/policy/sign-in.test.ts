import { expect, test } from 'vitest'
import { cedar, createPolicy } from '../../src/identity/policy/cedar.ts'
import type { PolicyQuestion } from '../../src/identity/policy/decision.ts'
import { footprintOf } from '../../src/identity/policy/footprint.ts'

const question: PolicyQuestion = {
  principal: { kind: 'user', tenant: 'acme', user: 'alice', groups: [], claims: {} },
  action: 'sign_in',
  server: { id: 'notes', owner: 'o', status: 'approved' },
  downstream: { id: 'notes' },
  tenant: 'acme',
  scopes: ['notes:read'],
  environment: 'test',
  narrows: [],
  now: 1.7e12,
  client: { id: 'dcr_a', known: 'registered' },
}

let sets = 0
const policyOf = (texts: readonly string[]) => {
  const set = `sign-in ${(sets += 1)}`
  cedar.preparsePolicySet(set, {
    staticPolicies: Object.fromEntries(texts.map((text, at) => [`policy ${at}`, text])),
  })
  return createPolicy(
    set,
    footprintOf(
      texts.map((text) => {
        const read = cedar.policyToJson(text)
        if (read.type === 'failure') throw new Error(text)
        return read.json
      }),
    ),
  )
}

const FORBID = 'forbid (principal, action == Deputy::Action::"sign_in", resource == Deputy::Workload::"notes")'

test.each([
  ['no policy says anything', [], true],
  ['a policy permits something else', ['permit (principal, action == Deputy::Action::"minted", resource);'], true],
  ['a policy forbids it', [`${FORBID};`], false],
  ['it is permitted and forbidden', ['permit (principal, action, resource);', `${FORBID};`], false],
  ['clients of files alone are let in', [`${FORBID} unless { context.client.known == "file" };`], false],
  ['the policy is about another client', [`${FORBID} when { context.client.id == "dcr_b" };`], true],
  ['a policy cannot be evaluated', [`${FORBID} when { context.tool == "x" };`], false],
  [
    'the policy is about the resource',
    ['forbid (principal, action, resource) when { resource is Deputy::Workload && resource.owner == "o" };'],
    false,
  ],
])('promise 1: sign-in at a client, where %s', (_where, texts, allowed) => {
  const policy = policyOf(texts)
  expect(policy.decide(question)).toMatchObject({ allowed, scopes: allowed ? ['notes:read'] : [] })
})

test('promise 1: decisions for one client are none for another', () => {
  const policy = policyOf([`${FORBID} when { context.client.id == "dcr_b" };`])
  expect(policy.decide(question).allowed).toBe(true)
  expect(policy.decide({ ...question, client: { id: 'dcr_b', known: 'registered' } }).allowed).toBe(false)
})
