import { readdirSync, readFileSync, statSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Command } from 'commander'
import { afterAll, describe, expect, it } from 'vitest'
import { wholeProgram } from '../../scripts/docs-commands.ts'
import { exit } from '../../src/cli/terminal.ts'
import { readLocalSecret } from '../../src/credentials/secret/reference.ts'
import { runCli } from '../support/process.ts'

const folders: string[] = []
afterAll(async () => {
  for (const folder of folders) await rm(folder, { recursive: true, force: true })
})
const aFolder = async (): Promise<string> => {
  const folder = await mkdtemp(join(tmpdir(), 'deputy-cli-'))
  folders.push(folder)
  return folder
}

const commandsOf = (command: Command): Command[] => [command, ...command.commands.flatMap(commandsOf)]
const sources = readdirSync(new URL('../../src', import.meta.url), { recursive: true, encoding: 'utf8' }).filter(
  (name) => name.endsWith('.ts'),
)

describe('secrets and the command line', () => {
  it('threat 3: no key is built in: each installation has its own, in files of its user alone', async () => {
    const [one, other] = [await aFolder(), await aFolder()]
    for (const home of [one, other]) expect((await runCli(home, ['init', home])).code).toBe(exit.ok)
    const keys = await Promise.all([one, other].map((home) => readFile(join(home, 'state/kek'), 'utf8')))
    expect(keys[0]).not.toBe(keys[1])
    for (const key of keys)
      expect(Buffer.from(key.trim().split(/\s/).at(-1)!, 'base64').length).toBeGreaterThanOrEqual(32)
    for (const home of [one, other]) {
      expect(statSync(join(home, 'state')).mode & 0o777).toBe(0o700)
      expect(statSync(join(home, 'state/kek')).mode & 0o777).toBe(0o600)
    }
  })

  it('threat 3: a daemon without its key does not start with another', async () => {
    const home = await aFolder()
    await runCli(home, ['init', home])
    await rm(join(home, 'state/kek'))
    const { code, err } = await runCli(home, ['serve'])
    expect(code).toBe(exit.configuration)
    expect(err).toContain('kek')
  })

  it('threat 3: no command takes a secret as an option or an argument, where every process of the machine can read it', async () => {
    const commands = commandsOf(await wholeProgram())
    expect(commands.length).toBeGreaterThan(30)
    for (const command of commands) {
      for (const { long } of command.options)
        expect(`${command.name()} ${long}`).not.toMatch(/--(secret|value|password|key|token-value)$/)
      for (const argument of command.registeredArguments)
        expect(`${command.name()} ${argument.name()}`).not.toMatch(/ (secret|value|password|key)$/)
    }
    const { code } = await runCli(await aFolder(), ['secret', 'set', 'hunter2', '--tenant', 'acme', '--name', 'x'])
    expect(code).toBe(exit.usage)
  })

  it('fault 24, promise 9: a secret that is no text is refused, from standard input, a file and a reference; no byte is changed', async () => {
    const home = await aFolder()
    const latin = Buffer.from('pass\xe9word\n', 'latin1')
    const set = ['secret', 'set', '--tenant', 'acme', '--name', 'x']
    // The judgement comes before the daemon is asked: there is none here.
    const { code, err } = await runCli(home, set, latin)
    expect([code, err]).toEqual([
      exit.usage,
      expect.stringMatching(/not stored: it is no UTF-8 text; store it in base64/),
    ])
    await writeFile(join(home, 'secret'), latin, { mode: 0o600 })
    expect((await runCli(home, [...set, '--file', join(home, 'secret')])).code).toBe(exit.usage)
    expect((await runCli(home, set, 'pass\u00e9word\n')).code).not.toBe(exit.usage)
    const from = { home, environment: { LATIN: 'pass\uFFFDword' } }
    for (const reference of [{ file: 'secret' }, { env: 'LATIN' }])
      await expect(readLocalSecret(reference, from, 'acme')).rejects.toMatchObject({
        code: 'config_invalid',
        message: expect.stringContaining('no UTF-8 text'),
      })
    for (const text of ['p\u00e4ss', '\uFEFFwith a mark', 'a\u0000b', '  spaces  ']) {
      await writeFile(join(home, 'secret'), `${text}\n`, { mode: 0o600 })
      expect((await readLocalSecret({ file: 'secret' }, from, 'acme')).reveal()).toBe(text)
    }
  })

  it('threats 3 and 5: nothing that a request reaches can start a program', () => {
    const starting = sources.filter((name) =>
      /node:child_process|node:vm|\beval\(|new Function\(/.test(
        readFileSync(new URL(`../../src/${name}`, import.meta.url), 'utf8'),
      ),
    )
    // A browser for who types `deputy login`, getent(1) for who names a Unix user, the server of who types `deputy dev -- COMMAND`, what who types `deputy exec` wants to run, and programs that deputy.yaml allows, which only a rotation policy can name.
    expect(starting.sort()).toEqual([
      'cli/commands/login.ts',
      'cli/exec/child.ts',
      'cli/registry/unix-user.ts',
      'dev/command-server.ts',
      'flows/rotation/rotators/command.ts',
    ])
    const using = sources.filter(
      (name) =>
        readFileSync(new URL(`../../src/${name}`, import.meta.url), 'utf8').includes("/command.ts'") ||
        readFileSync(new URL(`../../src/${name}`, import.meta.url), 'utf8').includes('rotators/create.ts'),
    )
    expect(using.sort()).toEqual(['flows/rotation/rotators/create.ts', 'flows/rotation/service.ts'])
  })
})
