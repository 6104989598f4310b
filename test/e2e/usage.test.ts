import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { aCompany, RESOURCES } from '../support/configuration.ts'
import {
  ACCESS_TOKEN,
  startDaemonHere,
  startTestIssuer,
  TOKEN_EXCHANGE,
  type RunningDaemon,
  type TestIssuer,
} from '../support/daemon.ts'

describe('deputy server usage', () => {
  let issuer: TestIssuer
  let daemon: RunningDaemon
  beforeAll(async () => {
    issuer = await startTestIssuer()
    daemon = await startDaemonHere(
      aCompany({
        issuer: issuer.url,
        notes: {
          tools: {
            read: { downstream: 'ledger', scopes: ['ledger:read'] },
            old: { downstream: 'ledger', scopes: ['ledger:read'], deprecated: true },
            '*': { downstream: 'ledger', scopes: ['ledger:read'] },
            never: { downstream: 'ledger', scopes: ['ledger:read'] },
          },
        },
      }),
    )
  })
  afterAll(async () => {
    await daemon?.close()
    await issuer?.close()
  })
  const call = async (sub: string, tool?: string): Promise<number> =>
    (
      await daemon.token({
        grant_type: TOKEN_EXCHANGE,
        subject_token: await issuer.sign({ aud: RESOURCES.notes, org: 'acme', sub }),
        subject_token_type: ACCESS_TOKEN,
        audience: 'ledger',
        scope: 'ledger:read',
        ...(tool === undefined ? {} : { tool }),
      })
    ).status

  it('says which tools nobody uses, which are deprecated and still called, by whom, and which no file knows', async () => {
    for (const [sub, tool] of [
      ['alice', 'read'],
      ['alice', 'read'],
      ['bob', 'old'],
      ['alice', 'hidden'],
      ['alice', undefined],
    ] as const)
      expect(await call(sub, tool)).toBe(200)
    const usage = JSON.parse((await daemon.deputy('server', 'usage', '--json')).out) as {
      server: string
      tool: string | null
      state: string
      calls: number
      users: { user: string; tenant: string; calls: number }[]
    }[]
    expect(usage.map(({ server, tool, state, calls }) => [server, tool, state, calls])).toEqual([
      ['notes', 'read', 'used', 2],
      ['notes', 'old', 'deprecated', 1],
      ['notes', 'never', 'unused', 0],
      ['notes', 'hidden', 'unregistered', 1],
      ['notes', null, 'used', 1],
    ])
    const shown = (await daemon.deputy('server', 'usage', '--days', '30')).out
    expect(shown).toContain('Not called in 30 days: 1 tool.')
    expect(shown).toContain('notes old is deprecated and still called: bob of acme (1).')
    expect((await daemon.deputy('server', 'usage', '--days', 'x')).code).toBe(1)
  })

  it('exports a server for the registry', async () => {
    expect(
      JSON.parse((await daemon.deputy('server', 'export', 'notes', '--namespace', 'com.example')).out),
    ).toMatchObject({ name: 'com.example/notes', remotes: [{ url: RESOURCES.notes }] })
    expect((await daemon.deputy('server', 'export', 'notes')).err).toContain('--namespace')
    expect((await daemon.deputy('server', 'export', 'nobody')).err).toContain('deputy server list')
  })
})
