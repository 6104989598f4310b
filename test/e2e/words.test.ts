/** What the CLI and the API say, and one grammar of commands: noun, verb, name. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { taxonomy } from '../../src/errors.ts'
import { aCompany } from '../support/configuration.ts'
import { startDaemonHere, type RunningDaemon } from '../support/daemon.ts'

let daemon: RunningDaemon
beforeAll(async () => {
  daemon = await startDaemonHere({
    ...aCompany({ issuer: 'http://127.0.0.1:9' }),
    'policies/access/own.test.yaml': {
      examples: [
        {
          name: 'nothing permits it',
          expect: 'allow',
          server: 'notes',
          tenant: 'acme',
          user: 'mallory',
          downstream: 'nowhere',
          credential: 'minted',
          scopes: ['x'],
        },
      ],
    },
  })
})
afterAll(async () => {
  await daemon?.close()
})

describe('fault 40: one grammar of commands', () => {
  it('fault 40: what a command is about is its argument, or the option that it was', async () => {
    expect((await daemon.deputy('tenant', 'freeze', 'acme')).out).toContain('acme is frozen: nothing is issued')
    expect((await daemon.deputy('tenant', 'thaw', '--tenant', 'acme')).out).toBe('acme is thawed.\n')
    expect((await daemon.deputy('user', 'disable', 'alice', '--tenant', 'acme', '--force')).out).toContain(
      'alice of acme is disabled.',
    )
    expect((await daemon.deputy('user', 'enable', '--user', 'alice', '--tenant', 'acme', '--force')).code).toBe(0)
    expect((await daemon.deputy('tenant', 'destroy', 'acme')).err).toContain('deputy tenant destroy acme --yes')
  })

  it('fault 40: two names, and none, are wrong usage', async () => {
    for (const args of [['acme', '--tenant', 'globex'], []]) {
      const { code, out } = await daemon.deputy('tenant', 'freeze', ...args)
      expect([args, code, out]).toEqual([args, 2, ''])
    }
    expect((await daemon.deputy('tenant', 'frozen')).out).toBe('No tenant is frozen.\n')
  })
})

describe('fault 40: words', () => {
  it('fault 40: what has not changed is not told as a success', async () => {
    expect((await daemon.deputy('tenant', 'thaw', 'acme')).out).toBe('acme was not frozen; no change.\n')
    expect((await daemon.deputy('user', 'enable', 'alice', '--tenant', 'acme', '--force')).out).toBe(
      'alice of acme was not disabled; no change.\n',
    )
  })

  it('fault 40: a name that the registry does not have is told as one, with near ones', async () => {
    const ask = (server: string, tenant: string) =>
      daemon.deputy(
        'policy',
        'explain',
        '--server',
        server,
        '--tenant',
        tenant,
        '--user',
        'a',
        '--downstream',
        'ledger',
      )
    expect((await ask('note', 'acme')).err).toContain("There is no server 'note'. Did you mean 'notes'?")
    expect((await ask('notes', 'acne')).err).toContain("There is no tenant 'acne'. Did you mean 'acme'?")
    expect((await daemon.deputy('tenant', 'show', 'acne')).err).toContain("Did you mean 'acme'?")
  })

  it('fault 40: an example that no policy permits says so', async () => {
    const { out, err } = await daemon.deputy('policy', 'test')
    expect(out + err).toContain('no policy permits it, so it is denied')
  })

  it('fault 40: every sentence is plain', () => {
    for (const [code, { sentence, next }] of Object.entries(taxonomy))
      expect([code, sentence, next].join(' ')).not.toMatch(
        /\b(nobody|whoever|somebody|theirs|told of|left alone|leaving it alone|at its word)\b|\(s\)/i,
      )
  })
})
