import { describe, expect, test } from 'vitest'
import { tenantSchema } from '../../src/config/tenant.ts'
import { chooseTenant, emailDomain } from '../../src/flows/connect/tenant-choice.ts'

const aTenant = (tenant: string, client: string, domains: string[] = []) =>
  tenantSchema.parse({ tenant, sign_in: { issuer: `https://${client}.example`, client_id: 'deputy', domains } })

const plain = aTenant('plain', 'one')
const other = aTenant('other', 'two')
const acme = aTenant('acme', 'three', ['acme.com', 'acme.de'])
const globex = aTenant('globex', 'four', ['globex.com'])
/** Signs in with the client of globex. */
const initech = aTenant('initech', 'four', ['initech.com'])

const outcome = (tenants: Parameters<typeof chooseTenant>[0], hints: { chosen?: string; email?: string } = {}) => {
  const choice = chooseTenant(tenants, { chosen: hints.chosen, email: hints.email })
  return 'tenants' in choice ? [choice.kind, ...choice.tenants.map(({ tenant }) => tenant)] : [choice.kind]
}

describe('which tenant signs in', () => {
  test.each([
    ['nobody', [], {}, ['none']],
    ['the only one', [acme], {}, ['sign_in', 'acme']],
    ['those that share a client, without a question', [globex, initech], {}, ['sign_in', 'globex', 'initech']],
    ['by name where none has domains', [plain, other], {}, ['names', 'plain', 'other']],
    ['the one that was chosen', [plain, other], { chosen: 'other' }, ['sign_in', 'other']],
    ['none that is not there', [plain, other], { chosen: 'acme' }, ['none']],
    ['by address where any has domains', [plain, acme], {}, ['email']],
    ['the one of the domain', [plain, acme, globex], { email: 'a@acme.de' }, ['sign_in', 'acme']],
    [
      'and those that share its client',
      [acme, globex, initech],
      { email: 'a@globex.com' },
      ['sign_in', 'globex', 'initech'],
    ],
    ['the rest, for another domain', [plain, acme], { email: 'a@x.com' }, ['sign_in', 'plain']],
    ['the rest by name', [plain, other, acme], { email: 'a@x.com' }, ['names', 'plain', 'other']],
    ['again, where there is no rest', [acme, globex], { email: 'a@x.com' }, ['email']],
    ['no subdomain', [acme, globex], { email: 'a@evil.acme.com' }, ['email']],
    ['no text that is no address', [acme, globex], { email: 'acme.com' }, ['email']],
    ['promise 8: none with domains by its name', [plain, acme], { chosen: 'acme' }, ['none']],
  ] as const)('%s', (_, tenants, hints, expected) => {
    expect(outcome(tenants, hints)).toEqual(expected)
  })

  test.each([
    ['Ada@ACME.com', 'acme.com'],
    [' ada@acme.com. ', 'acme.com'],
    ['ada@bücher.example', 'xn--bcher-kva.example'],
    ['a@b@acme.com', undefined],
    ['@acme.com', undefined],
    ['ada@', undefined],
    ['ada@acme.com evil.com', undefined],
    [undefined, undefined],
  ])('the domain of %s', (email, domain) => {
    expect(emailDomain(email)).toBe(domain)
  })
})
