import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { gunzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { MIGRATION_NOTES } from '../../src/foundation/store/migrations/notes.ts'
import { SCHEMA_VERSION } from '../../src/foundation/store/migrations/index.ts'
import type { OAuthProviderDouble } from '../doubles/oauth-provider.ts'
import { aCompany, RESOURCES } from '../support/configuration.ts'
import {
  ACCESS_TOKEN,
  prepareDaemonHere,
  startTestIssuer,
  TOKEN_EXCHANGE,
  type DaemonHere,
  type TestIssuer,
} from '../support/daemon.ts'
import { grantFiles } from '../support/grants.ts'

/** A store that the version of 2026-11-25 has written (commit 70208be): alice's grant, bob revoked, carol disabled, a secret. */
const FIXTURE = join(import.meta.dirname, '../fixtures/store-2026-11-25')

interface Facts {
  readonly schema: number
  readonly provider: Pick<OAuthProviderDouble, 'url' | 'client'>
  readonly accessToken: string
}

let issuer: TestIssuer
let daemon: DaemonHere
let facts: Facts

beforeAll(async () => {
  facts = JSON.parse(await readFile(join(FIXTURE, 'facts.json'), 'utf8')) as Facts
  issuer = await startTestIssuer()
  daemon = await prepareDaemonHere({
    ...aCompany({
      issuer: issuer.url,
      notes: {
        downstreams: { 'notes-api': { scopes: ['read'] }, ledger: { scopes: ['ledger:read'] }, mail: { scopes: [] } },
      },
    }),
    ...grantFiles(facts.provider as OAuthProviderDouble),
  })
  const state = join(daemon.home, 'state')
  await mkdir(join(state, 'keys'), { mode: 0o700 })
  await writeFile(join(state, 'deputy.db'), gunzipSync(await readFile(join(FIXTURE, 'deputy.db.gz'))), { mode: 0o600 })
  for (const [name, to] of [
    ['kek', 'kek'],
    ['acme.key', 'keys/acme.key'],
    ['_deputy.key', 'keys/_deputy.key'],
  ] as const)
    // Git keeps no mode but that of a program.
    await writeFile(join(state, to), await readFile(join(FIXTURE, name)), { mode: 0o600 })
})
afterAll(async () => {
  await daemon?.close()
  await issuer?.close()
})

const exchange = async (sub: string, audience: string, scope?: string): Promise<unknown> => {
  const { status, body } = await daemon.token({
    grant_type: TOKEN_EXCHANGE,
    subject_token: await issuer.sign({ aud: RESOURCES.notes, org: 'acme', sub }),
    subject_token_type: ACCESS_TOKEN,
    audience,
    ...(scope === undefined ? {} : { scope }),
  })
  return status === 200 ? body['access_token'] : body['reason']
}
const check = async () => {
  const { code, out } = await daemon.deputy('upgrade', '--check', '--json')
  return { code, ...(JSON.parse(out) as { store: { schema: number; steps: unknown[]; audit_records: number } }) }
}

describe('the store of the version before', () => {
  it('is upgraded: told before, then done at the start; grants and secrets are read, orders hold, the audit log verifies', async () => {
    expect(MIGRATION_NOTES).toHaveLength(SCHEMA_VERSION)
    const before = await check()
    expect([before.code, before.store.schema, before.store.steps.length]).toEqual([1, 7, SCHEMA_VERSION - 7])
    expect(before.store.audit_records).toBeGreaterThan(10)
    expect((await check()).store).toEqual(before.store)
    expect((await daemon.deputy('upgrade')).code).toBe(2)
    // What going back needs is made by the new version, of what the old one has left.
    const key = join(daemon.home, '../', `${basename(daemon.home)}.key`)
    await daemon.deputy('backup', 'key', key)
    const backup = await daemon.deputy('backup', `${key}.backup`, '--key-file', key)
    expect([backup.code, backup.out]).toEqual([0, expect.stringContaining('store: schema 7')])
    await Promise.all([rm(key), rm(`${key}.backup`)])
    await daemon.start()
    expect(await exchange('alice', 'notes-api', 'read')).toBe(facts.accessToken)
    expect(await exchange('alice', 'mail')).toBe('the-mail-key')
    expect(await exchange('bob', 'notes-api', 'read')).not.toMatch(/^access-/)
    expect(await exchange('carol', 'ledger', 'ledger:read')).toBe('subject_user_disabled')
    expect((await daemon.deputy('audit', 'verify')).code).toBe(0)
    const revocations = await daemon.deputy('audit', 'query', '--event', 'revocation', '--json')
    expect(revocations.out).toContain('"user": "bob"')
    await daemon.stop()
    expect((await check()).code).toBe(0)
    const database = new DatabaseSync(join(daemon.home, 'state/deputy.db'))
    database.prepare('insert into schema_version (version) values (?)').run(SCHEMA_VERSION + 1)
    database.close()
    const newer = await daemon.deputy('upgrade', '--check')
    expect([newer.code, newer.out]).toEqual([7, expect.stringContaining('a newer Deputy has written it')])
  })
})
