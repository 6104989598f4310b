import { expect, it } from 'vitest'
import { sharedSignInWarnings } from '../../src/config/shared-sign-in.ts'
import { aSnapshot, aTenant } from '../support/snapshot.ts'

const signingIn = (tenant: string, client: string, more: object = {}) =>
  aTenant({ tenant, sign_in: { issuer: 'https://idp.example', client_id: client }, ...more })
const warnings = (...tenants: ReturnType<typeof aTenant>[]): string[] =>
  sharedSignInWarnings(aSnapshot({ tenants })).map(({ message }) => message)

it('fault 68: tenants that share a client of an issuer are told that logouts reach one of them', () => {
  expect(warnings(signingIn('acme', 'deputy'), signingIn('globex', 'deputy'))).toEqual([
    expect.stringContaining('acme, globex sign in with the same client deputy of https://idp.example'),
  ])
  expect(warnings(signingIn('acme', 'deputy'), signingIn('globex', 'deputy-globex'))).toEqual([])
  expect(warnings(signingIn('acme', 'deputy'), signingIn('globex', 'deputy', { enabled: false }))).toEqual([])
  expect(warnings(signingIn('acme', 'deputy'), aTenant({ tenant: 'globex' }))).toEqual([])
})
