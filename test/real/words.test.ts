import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { createEgress } from '../../src/foundation/outbound/fetch.ts'
import { createVaultWire } from '../../src/credentials/secret/vault/client.ts'
import { createVaultSecrets } from '../../src/credentials/secret/vault/kv.ts'
import { freePort } from '../support/process.ts'
import { describeVaultClient } from '../conformance/vault-client.ts'
import { findOpenBao, startOpenBao, type OpenBao } from '../peers/openbao.ts'

const bao = findOpenBao()
if (bao !== undefined)
  describeVaultClient('a real OpenBao', async () => {
    const server = await startOpenBao(bao)
    const made = await Promise.all(
      [1, 2].map(
        async () =>
          (
            (await server.must('POST', 'auth/token/create', { policies: ['default'] })) as {
              auth: { client_token: string; accessor: string }
            }
          ).auth,
      ),
    )
    return {
      url: server.url,
      tokens: [made[0]!.client_token, made[1]!.client_token],
      accessors: [made[0]!.accessor, made[1]!.accessor],
      close: () => server.close(),
    }
  })
describe.skipIf(bao === undefined)('secrets of a real OpenBao', () => {
  let server: OpenBao
  beforeAll(async () => {
    server = await startOpenBao(bao!)
    await server.must('POST', 'sys/mounts/first', { type: 'kv', options: { version: '1' } })
    await server.must('POST', 'sys/mounts/transit', { type: 'transit' })
  })
  afterAll(async () => {
    await server?.close()
  })
  const egress = createEgress({ allowLoopback: true, allowPrivate: [], timeout: 3000 })
  afterAll(() => egress.close())
  const secretsIn = (mount: string, token = server.rootToken, address = server.url) => {
    const send = createVaultWire({ id: 'vault', address, egress, timeout: 3000 })
    return createVaultSecrets({
      id: 'vault',
      mount,
      path: 'deputy/{tenant}/{secret}',
      field: 'value',
      session: { ask: (request) => send(request, new Secret(token)) },
    })
  }

  it.each([
    ['first', /KV engine of version 1/],
    ['transit', /engine of the kind transit/],
  ])('fault 55: the mount %s is told as what it is, for reading and for writing', async (mount, words) => {
    const backend = secretsIn(mount)
    const refusal = { code: 'secret_backend_refused', message: expect.stringMatching(words) as string }
    if (mount === 'first') await expect(backend.read('acme', 'key')).rejects.toMatchObject(refusal)
    await expect(backend.stage('acme', 'key', new Secret('v'), 't'.repeat(32))).rejects.toMatchObject(refusal)
    expect((await server.ask('LIST', 'first/data/deputy/acme')).status).toBe(404)
  })

  it('fault 55: a secret that does not exist in the right mount is missing', async () => {
    await expect(secretsIn('secret').read('acme', 'none')).rejects.toMatchObject({ code: 'secret_missing' })
  })

  it('fault 52: the words of a refusal are for admins', async () => {
    const { roleId, secretId } = await server.approle({}, 'path "cubbyhole/*" { capabilities = ["read"] }')
    const { body } = await server.ask('POST', 'auth/approle/login', { role_id: roleId, secret_id: secretId })
    const token = (body as { auth: { client_token: string } }).auth.client_token
    await expect(secretsIn('secret', token).read('acme', 'key')).rejects.toMatchObject({
      code: 'secret_backend_refused',
      message: 'The secret backend vault refused: it answered 403.',
      facts: { answered: 'permission denied' },
    })
  })

  it('fault 56: nothing that listens, and a port without TLS, are told as that', async () => {
    const read = (address: string) => secretsIn('secret', 't', address).read('acme', 'key')
    await expect(read(`http://127.0.0.1:${await freePort()}`)).rejects.toMatchObject({
      message: expect.stringMatching(/no program listens.*ECONNREFUSED/) as string,
    })
    await expect(read(server.url.replace('http:', 'https:'))).rejects.toMatchObject({
      message: expect.stringMatching(/does not speak TLS/) as string,
    })
  })
})
