import { describe, expect, it } from 'vitest'
import { isPushed } from '../../src/credentials/provider/pushed-request.ts'

describe('fault 67: authorization requests are pushed', () => {
  const ENDPOINT = { pushed_authorization_request_endpoint: 'https://login.example/par' }
  const MUST = { require_pushed_authorization_requests: true }
  const outcome = (par: 'required' | 'offered' | 'never', metadata: object, hasDocument = false): unknown => {
    try {
      return isPushed({ provider: 'login', par, server: { issuer: 'https://login.example', ...metadata }, hasDocument })
    } catch (error) {
      return (error as { code: string }).code
    }
  }

  it('where the file or the metadata says so, and for clients with a document only where they have to be', () => {
    for (const [par, metadata, ofClient, ofDocument] of [
      ['offered', {}, false, false],
      ['offered', ENDPOINT, true, false],
      ['offered', { ...ENDPOINT, ...MUST }, true, true],
      ['offered', MUST, 'provider_refused', 'provider_refused'],
      ['never', { ...ENDPOINT, ...MUST }, false, false],
      ['required', ENDPOINT, true, true],
      ['required', {}, 'provider_refused', 'provider_refused'],
    ] as const)
      expect([par, metadata, outcome(par, metadata), outcome(par, metadata, true)]).toEqual([
        par,
        metadata,
        ofClient,
        ofDocument,
      ])
  })
})
