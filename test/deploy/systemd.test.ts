/** The unit is checked by systemd's own tools, offline: no booted systemd is needed. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { parseYamlFile } from '../../src/config/yaml-file.ts'
import { settingsSchema } from '../../src/config/settings.ts'

const FOLDER = resolve(import.meta.dirname, '../../deploy/systemd')
const unit = readFileSync(join(FOLDER, 'deputy.service'), 'utf8')
const DROP_IN = readFileSync(join(FOLDER, 'drop-ins/executable-attestation.conf'), 'utf8')

/** Tenths, as `--threshold` counts. The unit reaches 1.4; what is left is the internet, the socket and V8. */
const EXPOSURE = 15
const EXPOSURE_WITH_PTRACE = 20

const analyze = (...args: string[]): { status: number | null; output: string } => {
  const { status, stdout, stderr } = spawnSync('systemd-analyze', ['--no-pager', ...args], {
    encoding: 'utf8',
    timeout: 15_000,
  })
  return { status, output: `${stdout}${stderr}` }
}
const isThere = spawnSync('systemd-analyze', ['--version']).status === 0
if (!isThere) console.warn('\n*** systemd-analyze is not installed: the systemd unit was NOT checked by it ***\n')

/** Programs that this machine does not have at those paths are replaced by one that it has: verify looks for them. */
const withPrograms = (text: string): string => text.replaceAll(/^(Exec\w+=)\S+/gm, `$1${process.execPath}`)

const inFolder = (files: Readonly<Record<string, string>>, look: (unit: string) => void): void => {
  const folder = mkdtempSync(join(tmpdir(), 'deputy-unit-'))
  try {
    for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text)
    look(join(folder, 'deputy.service'))
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** All values of a directive, in order. */
const valuesOf = (name: string): string[] =>
  unit
    .split('\n')
    .filter((line) => line.startsWith(`${name}=`))
    .map((line) => line.slice(name.length + 1))

/** A drop-in comes after the unit, so its lines can simply follow it. */
const withDropIn = `${unit}\n${DROP_IN}`

describe.skipIf(!isThere)('systemd-analyze', () => {
  test.each([
    ['the unit', unit],
    ['the unit with the drop-in', withDropIn],
  ])('finds nothing to say about %s', (_what, text) => {
    inFolder({ 'deputy.service': withPrograms(text) }, (path) => {
      expect(analyze('verify', '--man=no', path)).toEqual({ status: 0, output: '' })
    })
  })

  test('would find a directive that does not exist', () => {
    inFolder({ 'deputy.service': withPrograms(unit).replace('NoNewPrivileges=', 'NoNewPriviledges=') }, (path) => {
      expect(analyze('verify', '--man=no', path).output).toContain('NoNewPriviledges')
    })
  })

  test.each([
    ['the unit', unit, EXPOSURE],
    ['the unit with the drop-in', withDropIn, EXPOSURE_WITH_PTRACE],
  ])('rates the exposure of %s as low', (_what, text, threshold) => {
    inFolder({ 'deputy.service': text }, (path) => {
      const { status, output } = analyze('security', '--offline=true', `--threshold=${threshold}`, path)
      expect(output).toMatch(/Overall exposure level for deputy.service: [0-2]\.\d/)
      expect(status, output).toBe(0)
    })
  })
})

test('the unit waits longer for the end than requests under way may take', () => {
  const [patience] = valuesOf('TimeoutStopSec')
  expect(Number(patience?.replace('s', '')) * 1000).toBeGreaterThan(settingsSchema.parse({}).limits.drain)
})

test('the unit does not start again after a mistake in the configuration', () => {
  expect(valuesOf('RestartPreventExitStatus')).toEqual(['2 3'])
})

test('what would blind or stop the daemon is not in the unit', () => {
  expect(valuesOf('PrivateUsers')).toEqual(['no'])
  expect(valuesOf('MemoryDenyWriteExecute')).toEqual(['no'])
})

test('the settings for the unit are valid and use its folders', () => {
  const {
    values: [settings],
    problems,
  } = parseYamlFile('deputy.yaml', readFileSync(join(FOLDER, 'deputy.yaml'), 'utf8'), settingsSchema)
  expect(problems).toEqual([])
  expect(settings?.value).toMatchObject({
    state: `/var/lib/${valuesOf('StateDirectory')[0]}`,
    listen: { socket: `/run/${valuesOf('RuntimeDirectory')[0]}/deputy.sock`, socket_mode: 0o660 },
  })
})
