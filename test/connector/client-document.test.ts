import { expect, it } from 'vitest'
import { downstreamSchema } from '../../src/config/downstream.ts'
import { providerSchema } from '../../src/config/provider.ts'
import { clientDocument } from '../../src/credentials/provider/client-document.ts'
import { aSnapshot } from '../support/snapshot.ts'

const of = (name: string, ...given: readonly object[]): object | undefined =>
  clientDocument(
    {
      ...aSnapshot(),
      providers: new Map([
        [
          'p',
          providerSchema.parse({
            provider: 'p',
            name: 'P',
            token_endpoint: 'https://idp.example/token',
            client_authentication: 'private_key_jwt',
          }),
        ],
      ]),
      downstreams: new Map(
        given.map((each, at) => [
          `d${at}`,
          downstreamSchema.parse({
            downstream: `d${at}`,
            provider: 'p',
            resource: 'https://api.example',
            client: { client_id: 'http://127.0.0.1:7880/clients/notes' },
            ...each,
          }),
        ]),
      ),
    },
    name,
  )

it('requirement 1: the document of a client names every grant that is asked for with it', () => {
  const grants = (given: object): unknown => (of('notes', given) as { grant_types: string[] }).grant_types
  const assertion = { key: { secret: 'key' } }
  expect(grants({ credential: 'saml_bearer', assertion })).toEqual(['urn:ietf:params:oauth:grant-type:saml2-bearer'])
  expect(grants({ credential: 'jwt_bearer', assertion })).toEqual(['urn:ietf:params:oauth:grant-type:jwt-bearer'])
  expect(grants({ credential: 'token_exchange', actor: 'client' })).toEqual([
    'client_credentials',
    'urn:ietf:params:oauth:grant-type:token-exchange',
  ])
})

it('promise 8: the document of a client says nothing of tenants, and there is none of clients that are not there', () => {
  expect(
    JSON.stringify(
      of('notes', {
        credential: 'client_credentials',
        tenants: ['acme'],
        clients: { globex: { client_id: 'globex-client' } },
      }),
    ),
  ).not.toMatch(/acme|globex/)
  for (const name of ['other', 'constructor', '__proto__', 'notes/', ''])
    expect(of(name, { credential: 'client_credentials' })).toBeUndefined()
})
