/** A workload of a real SPIRE gets a token for an MCP server with its JWT-SVID, as an agent. */
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { decodeJwt } from 'jose'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { findPostgres, type PostgresServer, startPostgres } from '../peers/postgres.ts'
import { findSpire, type Spire, startSpire } from '../peers/spire.ts'
import { ACCESS_TOKEN, type Daemon, startDaemonProcess, TOKEN_EXCHANGE } from '../support/daemon.ts'

const programs = findSpire()
const bin = programs === undefined ? undefined : findPostgres()
const RESOURCE = 'https://notes.example/mcp'

describe.skipIf(programs === undefined || bin === undefined)('a workload of SPIRE', () => {
  let postgres: PostgresServer
  let spire: Spire
  let daemon: Daemon
  let bundles: Server
  let issuer: string

  beforeAll(async () => {
    postgres = await startPostgres(bin!)
    spire = await startSpire(programs!, postgres)
    const bundle = await spire.bundle()
    bundles = createServer((_request, response) => {
      response.setHeader('content-type', 'application/json').end(bundle)
    })
    await new Promise<void>((resolve) => {
      bundles.listen(0, '127.0.0.1', resolve)
    })
    const jwksUri = `http://127.0.0.1:${(bundles.address() as AddressInfo).port}/bundle.json`
    const token = { issuer: spire.issuer, jwks_uri: jwksUri, algorithms: ['ES256'], reusable: true }
    const agent = (client: string, subject: string) => ({
      client,
      owner: 'platform@company.example',
      agent: { tenant: 'acme', servers: { notes: { scopes: ['notes:read'] } }, tokens: [{ ...token, subject }] },
    })
    daemon = await startDaemonProcess({
      'tenants/acme.yaml': { tenant: 'acme' },
      'servers/notes.yaml': {
        server: 'notes',
        resource: RESOURCE,
        tenants: ['acme'],
        owner: 'notes@company.example',
        status: 'approved',
        attest: [{ unix: { uid: process.getuid?.() ?? 0 } }],
        downstreams: { api: { scopes: [] } },
      },
      'downstreams/api.yaml': {
        downstream: 'api',
        credential: 'minted',
        resource: 'https://api.example',
        tenants: ['acme'],
      },
      'clients/deploy.yaml': agent('deploy', 'spiffe://example.org/ci/*'),
      'clients/other.yaml': agent('other', 'spiffe://example.org/apps/*'),
      'policies/access/all.cedar': 'permit (principal is Deputy::Agent, action, resource);',
    })
    issuer = `http://127.0.0.1:${daemon.port}`
  }, 180_000)
  afterAll(async () => {
    await daemon?.close()
    bundles?.close()
    await spire?.close()
    await postgres?.close()
  })

  const request = async (assertion: string): Promise<{ status: number; body: Record<string, unknown> }> => {
    const response = await fetch(`${issuer}/oauth2/token`, {
      method: 'POST',
      body: new URLSearchParams({
        grant_type: 'urn:ietf:params:oauth:grant-type:jwt-bearer',
        assertion,
        resource: RESOURCE,
      }),
    })
    return { status: response.status, body: (await response.json()) as Record<string, unknown> }
  }

  it('gets a token with the JWT-SVID that the agent gives it, again and again, and the server a credential for it', async () => {
    const svid = await spire.fetchJwt(issuer)
    expect(decodeJwt(svid)).toMatchObject({ iss: spire.issuer, sub: spire.spiffeId, aud: [issuer] })
    for (const _ of [1, 2]) {
      const { status, body } = await request(svid)
      expect([status, body['error_description']]).toEqual([200, undefined])
      const token = String(body['access_token'])
      expect(decodeJwt(token)).toMatchObject({ sub: 'deploy', agent: true, aud: RESOURCE, scope: 'notes:read' })
      const exchanged = await daemon.token({
        grant_type: TOKEN_EXCHANGE,
        client_id: 'notes',
        subject_token: token,
        subject_token_type: ACCESS_TOKEN,
        audience: 'api',
      })
      expect(exchanged.status).toBe(200)
    }
  })

  it('threat 14: gets none with a JWT-SVID for another audience', async () => {
    expect(await request(await spire.fetchJwt('https://other.example'))).toMatchObject({
      status: 400,
      body: { error: 'invalid_grant' },
    })
  })
})
