import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { settingsSchema } from '../../src/config/settings.ts'
import { prepareDaemon } from '../support/daemon.ts'
import { runConfigurationCampaign } from './broken-folders.ts'

// The long form, with a seed of its own: npm run campaign:configuration
test('faults 27 to 31: of broken folders check throws nothing, and what it passes serve starts', async () => {
  const report = await runConfigurationCampaign({ seed: 1, cases: 200, serve: 5 })
  expect(report.faults).toEqual([])
  expect(report.refused).toBeGreaterThan(50)
  expect(report.passed).toBeGreaterThan(5)
  expect(report.started).toBeGreaterThan(0)
})

test('fault 31: a cache that no memory holds is refused, instead of ending the process', () => {
  for (const entries of [1_000_001, 2 ** 31, Number.MAX_SAFE_INTEGER])
    expect(settingsSchema.safeParse({ cache: { entries } }).success).toBe(false)
})

test('fault 75: a host that is named twice is refused: one of the two would count, and not the other', () => {
  const hosts = (...named: object[]): boolean => settingsSchema.safeParse({ network: { hosts: named } }).success
  const at = { host: 'login.corp.example', at: 'https://10.0.0.1' }
  expect([hosts(at), hosts(at, { host: 'Login.corp.example', ca: 'ca.pem' })]).toEqual([true, false])
})

test('fault 30: a pipe among the files is told, and not waited for', async () => {
  const daemon = await prepareDaemon({ 'servers/README.md': '', 'policies/access/README.md': '' })
  try {
    for (const file of ['servers/pipe.yaml', 'policies/access/pipe.cedar']) {
      execFileSync('mkfifo', [join(daemon.home, file)])
      const { code, out } = await daemon.deputy('check')
      expect({ code, out }).toEqual({ code: 3, out: expect.stringContaining(`${file}:1: It is a pipe`) })
      execFileSync('rm', [join(daemon.home, file)])
    }
  } finally {
    await daemon.close()
  }
})
