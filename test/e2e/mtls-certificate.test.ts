import { connect, createServer, type Server, type TLSSocket } from 'node:tls'
import type { AddressInfo } from 'node:net'
import { once } from 'node:events'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { startVaultDouble, type VaultDouble } from '../doubles/vault.ts'
import { aCompany, RESOURCES } from '../support/configuration.ts'
import {
  ACCESS_TOKEN,
  startDaemonHere,
  startTestIssuer,
  TOKEN_EXCHANGE,
  type DaemonHere,
  type TestIssuer,
} from '../support/daemon.ts'

interface ClientCertificate {
  readonly certificate: string
  readonly private_key: string
  readonly ca_chain: readonly string[]
}

let vault: VaultDouble
let issuer: TestIssuer
let service: Server
let daemon: DaemonHere

/** A service that lets in whom the engine's authority has a certificate for, unless that is revoked there, and greets by name. */
const startService = async (): Promise<Server> => {
  const { certificate: cert, key } = await vault.authority.issue('service', { host: '127.0.0.1' })
  const server = createServer(
    { cert, key, ca: vault.authority.certificate, requestCert: true, rejectUnauthorized: true },
    (socket: TLSSocket) => {
      const { subject, serialNumber } = socket.getPeerCertificate()
      const isRevoked =
        vault.certificates.get(serialNumber.toLowerCase().replace(/(..)(?=.)/g, '$1:'))?.revoked !== false
      socket.end(isRevoked ? 'revoked' : `hello ${subject.CN}`)
    },
  )
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return server
}

beforeEach(async () => {
  vault = await startVaultDouble()
  issuer = await startTestIssuer()
  service = await startService()
  daemon = await startDaemonHere(
    {
      ...aCompany({ issuer: issuer.url, notes: { downstreams: { orders: { scopes: [] } } } }),
      'state/token': vault.rootToken,
      'downstreams/orders.yaml': {
        downstream: 'orders',
        credential: 'mtls_certificate',
        backend: 'vault',
        role: 'client',
        common_name: '{user}.{tenant}.clients.example',
      },
      'policies/access/orders.cedar':
        '@id("orders") permit (principal in Deputy::Tenant::"acme", action == Deputy::Action::"mtls_certificate", resource);',
    },
    {
      secrets: {
        backends: {
          vault: { kind: 'vault', address: vault.url, login: { token: { file: 'state/token' } }, timeout: '500ms' },
        },
      },
    },
  )
})
afterEach(async () => {
  await daemon?.close()
  service?.close()
  await issuer?.close()
  await vault?.close()
})

const certificateOf = async (sub: string): Promise<ClientCertificate> =>
  JSON.parse(
    String(
      (
        await daemon.token({
          grant_type: TOKEN_EXCHANGE,
          subject_token: await issuer.sign({ aud: RESOURCES.notes, org: 'acme', sub }),
          subject_token_type: ACCESS_TOKEN,
          audience: 'orders',
        })
      ).body['access_token'],
    ),
  ) as ClientCertificate
const greeting = async ({
  certificate,
  private_key: key,
  ca_chain: chain,
}: Partial<ClientCertificate>): Promise<string> => {
  const socket = connect({
    host: '127.0.0.1',
    port: (service.address() as AddressInfo).port,
    ca: chain === undefined ? vault.authority.certificate : [...chain],
    ...(certificate === undefined ? {} : { cert: certificate, key }),
  })
  let said = ''
  socket.on('data', (chunk: Buffer) => {
    said += chunk.toString('utf8')
  })
  try {
    await once(socket, 'close')
  } catch (error) {
    return (error as { code: string }).code
  }
  return said
}
const revokeAlice = async (): Promise<unknown> =>
  JSON.parse((await daemon.deputy('revoke', '--tenant', 'acme', '--user', 'alice', '--json')).out)
const revoked = () => [...vault.certificates.values()].map((each) => each.revoked)

it('promise 2: a certificate opens a TLS connection to a service that trusts the engine, and a revocation revokes it at Vault', async () => {
  const [alices, bobs] = [await certificateOf('alice'), await certificateOf('bob')]
  expect(await greeting({})).toBe('ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED')
  expect([await greeting(alices), await greeting(bobs)]).toEqual([
    'hello alice.acme.clients.example',
    'hello bob.acme.clients.example',
  ])
  expect(await certificateOf('alice')).toEqual(alices)
  expect(await revokeAlice()).toMatchObject({ leases: [{ user: 'alice', upstream: 'done' }] })
  expect(revoked()).toEqual([true, false])
  expect([await greeting(alices), await greeting(bobs)]).toEqual(['revoked', 'hello bob.acme.clients.example'])
  expect(daemon.output()).not.toContain(alices.private_key.slice(40, 80))
})

it('promise 4: a certificate that could not be revoked because Vault was away is revoked when that is back, by whichever daemon lives then', async () => {
  const { kill } = await daemon.moveToProcess()
  const alices = await certificateOf('alice')
  vault.sealed = true
  expect(await revokeAlice()).toMatchObject({ leases: [{ user: 'alice', upstream: 'queued' }] })
  expect(revoked()).toEqual([false])
  await kill()
  await daemon.start()
  vault.sealed = false
  await expect.poll(revoked, { timeout: 30_000, interval: 200 }).toEqual([true])
  expect(await greeting(alices)).toBe('revoked')
})
