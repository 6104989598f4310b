import { expect, it } from 'vitest'
import { downstreamSchema } from '../../src/config/downstream.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { refuse } from '../../src/errors.ts'
import { createSecretVersions } from '../../src/credentials/secret/versions.ts'

const downstreamOf = (backend: string) =>
  downstreamSchema.parse({ downstream: 'd', credential: 'static', secret: 's', backend })

it('fault 8: a version number that comes again for another value is another version', async () => {
  let [value, isAway] = ['one', false]
  const versions = createSecretVersions({
    embedded: () => Promise.resolve({ sealed: Buffer.from(value) }),
    read: () =>
      isAway
        ? Promise.reject(refuse('secret_backend_unavailable', { backend: 'vault', problem: 'sealed' }))
        : Promise.resolve({ version: '1', value: new Secret(value) }),
  })
  for (const backend of ['vault', 'embedded']) {
    value = 'one'
    const first = await versions(downstreamOf(backend), 'acme')
    expect(await versions(downstreamOf(backend), 'acme')).toBe(first)
    value = 'two'
    expect(await versions(downstreamOf(backend), 'acme')).not.toBe(first)
  }
  const last = await versions(downstreamOf('vault'), 'acme')
  isAway = true
  expect(await versions(downstreamOf('vault'), 'acme')).toBe(last)
  expect(last).not.toContain('two')
})
