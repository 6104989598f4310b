import { afterAll, describe, expect, it } from 'vitest'
import { cloudTenantWarnings } from '../../src/config/cloud-tenants.ts'
import { downstreamSchema } from '../../src/config/downstream.ts'
import type { Server } from '../../src/config/server.ts'
import { aCompany } from '../support/configuration.ts'
import { prepareDaemonHere, type RunningDaemon } from '../support/daemon.ts'
import { aServer, aSnapshot, aTenant } from '../support/snapshot.ts'

const ROLE = 'arn:aws:iam::123456789012:role/deputy'
const IDENTITY = { directory: 'contoso.example', client_id: 'aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee' }
const POOL = '//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/deputy'
const KINDS = {
  github_app: { app: 'Iv1', key: { secret: 'k' } },
  azure: { scope: 'https://management.azure.com/.default' },
  aws_sts: { region: 'eu-central-1' },
  gcp_sts: { pool_provider: POOL, service_accounts: { other: 'a@b.example' } },
} as const
const COMMON = {
  github_app: { installation: '42' },
  azure: { identity: IDENTITY },
  aws_sts: { role: ROLE },
  gcp_sts: { service_account: 'a@b.example' },
} as const
const OWN = {
  github_app: { installations: { acme: '42' } },
  azure: { identities: { acme: IDENTITY } },
  aws_sts: { roles: { acme: ROLE } },
  gcp_sts: { service_accounts: { acme: 'a@b.example' } },
} as const

const warnings = (given: object, server: Partial<Server> = {}) =>
  cloudTenantWarnings({
    ...aSnapshot(),
    tenants: new Map(['acme', 'globex'].map((tenant) => [tenant, aTenant({ tenant })])),
    servers: new Map([['notes', aServer({ tenants: '*', downstreams: { cloud: { scopes: [] } }, ...server })]]),
    downstreams: new Map([['cloud', downstreamSchema.parse({ downstream: 'cloud', ...given })]]),
  }).map(({ message }) => /for ([\w, ]+), so/.exec(message)?.[1])

describe('tenants that have nothing at a cloud', () => {
  it.each(Object.keys(KINDS) as (keyof typeof KINDS)[])(
    'promise 9: are named before they ask, for %s',
    (credential) => {
      const file = { credential, ...KINDS[credential] }
      expect(warnings(file)).toEqual(['acme, globex'])
      expect(warnings({ ...file, ...OWN[credential] })).toEqual(['globex'])
      expect(warnings({ ...file, ...COMMON[credential] })).toEqual([])
      expect(warnings({ ...file, ...OWN[credential], tenants: ['acme'] })).toEqual([])
      expect(warnings({ ...file, ...OWN[credential] }, { tenants: ['acme'] })).toEqual([])
      expect(warnings({ ...file, enabled: false })).toEqual([])
      expect(warnings(file, { downstreams: {} })).toEqual([])
      expect(
        warnings(file, { downstreams: {}, service_downstreams: { cloud: { scopes: [] } }, tenants: ['globex'] }),
      ).toEqual(['globex'])
      expect(warnings(file, { status: 'retired' })).toEqual([])
    },
  )

  it('are none where a tenant needs nothing there', () => {
    expect(warnings({ credential: 'aws_sts', ...KINDS.aws_sts, method: 'session_token' })).toEqual([])
    expect(warnings({ credential: 'gcp_sts', pool_provider: POOL })).toEqual([])
    expect(warnings({ credential: 'static', secret: 'k' })).toEqual([])
  })

  let daemon: RunningDaemon | undefined
  afterAll(async () => {
    await daemon?.close()
  })
  it('are a warning of a check, which is passed', async () => {
    daemon = await prepareDaemonHere({
      ...aCompany({ issuer: 'http://127.0.0.1:1', notes: { downstreams: { github: {} } } }),
      'downstreams/github.yaml': {
        downstream: 'github',
        credential: 'github_app',
        ...KINDS.github_app,
        installations: { acme: '42' },
      },
    })
    expect(await daemon.deputy('check')).toMatchObject({
      code: 0,
      out: expect.stringMatching(
        /warning: downstreams:1: github has no entry in `installations`, and no `installation`, for globex/,
      ) as string,
    })
  })
})
