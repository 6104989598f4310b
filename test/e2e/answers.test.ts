import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { aCompany, RESOURCES } from '../support/configuration.ts'
import {
  ACCESS_TOKEN,
  startDaemonProcess,
  startTestIssuer,
  TOKEN_EXCHANGE,
  type Daemon,
  type TestIssuer,
} from '../support/daemon.ts'

let issuer: TestIssuer
let daemon: Daemon
beforeAll(async () => {
  issuer = await startTestIssuer()
  // The file names the issuer with a slash that the issuer does not have.
  daemon = await startDaemonProcess(aCompany({ issuer: `${issuer.url}/`, notes: { tenants: ['acme'] } }))
})
afterAll(async () => {
  await daemon?.close()
  await issuer?.close()
})

describe('what the daemon answers', () => {
  it('fault 19, promise 9: an issuer that differs by a slash is not unreachable, and both names are said', async () => {
    const { status, body } = await daemon.token({
      grant_type: TOKEN_EXCHANGE,
      subject_token: await issuer.sign({ iss: `${issuer.url}/`, aud: RESOURCES.notes, org: 'acme' }),
      subject_token_type: ACCESS_TOKEN,
      audience: 'ledger',
    })
    expect([status, body['reason']]).toEqual([502, 'issuer_not_understood'])
    expect(body['error_description']).toContain(`names ${issuer.url}, the tenant's file ${issuer.url}/`)
    const story = (await daemon.deputy('explain', String(body['correlation_id']))).out
    expect(story).toContain(`names ${issuer.url}, the tenant's file ${issuer.url}/`)
  })
})
