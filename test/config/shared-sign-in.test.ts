import { expect, it } from 'vitest'
import { openIssuerWarnings } from '../../src/config/open-issuers.ts'
import { sharedAudienceWarnings } from '../../src/config/shared-audiences.ts'
import { sharedSignInWarnings } from '../../src/config/shared-sign-in.ts'
import { aServer, aSnapshot, aTenant } from '../support/snapshot.ts'

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

it('promise 2: servers that accept one audience are named', () => {
  const accepting = (server: string, audience: string, issuer = 'https://idp.example') =>
    aServer({ server, resource: `https://${server}.example`, accepted_audiences: [{ issuer, audience }] })
  const told = (...servers: ReturnType<typeof aServer>[]): string[] =>
    sharedAudienceWarnings(aSnapshot({ servers })).map(({ message }) => message)
  expect(told(accepting('notes', 'api://one'), accepting('files', 'api://one'))).toEqual([
    expect.stringContaining('files, notes accept tokens of https://idp.example for api://one'),
  ])
  expect(told(accepting('notes', 'api://one'), accepting('files', 'api://two'))).toEqual([])
  expect(told(accepting('notes', 'api://one'), accepting('files', 'api://one', 'https://b.example'))).toEqual([])
})

it('promise 8: a tenant to which every account of Google belongs is named', () => {
  const told = (issuer: object): string[] =>
    openIssuerWarnings(aSnapshot({ tenants: [aTenant({ issuers: [issuer] })] })).map(({ message }) => message)
  const google = 'https://accounts.google.com'
  expect(told({ issuer: google })).toEqual([expect.stringContaining(`Every account of ${google}`)])
  expect(told({ issuer: google, claims: { tenant: { claim: 'hd', value: 'acme.example' } } })).toEqual([])
  expect(told({ issuer: 'https://idp.example' })).toEqual([])
})
