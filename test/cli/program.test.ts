/** A command line loads the commands that it needs. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Command } from 'commander'
import { expect, it, onTestFinished } from 'vitest'
import { fromAnywhere } from '../../src/cli/commands/dev.ts'
import { calledAs } from '../../src/cli/dev-views.ts'
import { createProgram, run } from '../../src/cli/program.ts'
import { formatReceipt } from '../../src/cli/receipt.ts'
import { print, type Terminal } from '../../src/cli/terminal.ts'

const kept = (): { terminal: Terminal; said: () => string } => {
  let said = ''
  const add = (text: string): void => {
    said += text
  }
  return {
    said: () => said,
    terminal: {
      out: add,
      err: add,
      input: () => Promise.resolve(new Uint8Array()),
      isInteractive: false,
      environment: {},
      workingFolder: '/',
    },
  }
}

const namesOf = (program: Command): string[] => program.commands.map((command) => command.name())

it('each command is as it is among all the others when it is loaded for itself', async () => {
  const { terminal } = kept()
  const whole = await createProgram(terminal)
  expect(namesOf(whole).length).toBeGreaterThan(20)
  for (const command of whole.commands) {
    const alone = await createProgram(terminal, [command.name()])
    const same = alone.commands.find((each) => each.name() === command.name())
    expect(same?.helpInformation(), command.name()).toBe(command.helpInformation())
    expect(namesOf(alone).length, command.name()).toBeLessThan(namesOf(whole).length)
  }
})

it.each([
  [['--home', '/srv/deputy', 'revoke', '--help'], 'revoke'],
  [['--home=/srv/deputy', 'revoke', '--help'], 'revoke'],
  [['--home', 'status', 'revoke'], 'revoke'],
])('%j loads the command that it calls', async (argv, name) => {
  expect(namesOf(await createProgram(kept().terminal, argv))).toContain(name)
})

it.each([[['--help']], [['help']], [[]], [['no-such-command']]])('%j knows every command', async (argv) => {
  const { terminal, said } = kept()
  await run(argv, terminal)
  const all = namesOf(await createProgram(terminal))
  expect(namesOf(await createProgram(terminal, argv))).toEqual(all)
  if (argv.includes('--help')) for (const name of all) expect(said()).toContain(`  ${name} `)
})

it('no name or id of a user steers the terminal, in lines for people or in JSON', () => {
  const [user, named] = ['id\u202eecila\u202c', 'alice\u009b2K\u{e0001}']
  const receipt = {
    id: 'r',
    epoch: 0,
    dryRun: true,
    cached: 0,
    consents: 0,
    sessions: 0,
    clientSessions: 0,
    keyDestroyed: false,
    grants: [],
    leases: [],
    named,
    scope: { user },
    nodes: { acknowledged: 0, expired: [], milliseconds: 0 },
  }
  for (const json of [false, true]) {
    const { terminal, said } = kept()
    print(terminal, { json }, receipt, () => formatReceipt(receipt))
    expect(said()).toMatch(/^[\x20-\x7e\n]+$/)
    if (json) expect(JSON.parse(said())).toEqual(receipt)
    else expect(said()).toContain('alice\\u{9b}2K\\u{e0001} is the name of the user id\\u{202e}ecila\\u{202c}.')
  }
})

it('where no daemon runs, the next command has the folder of the caller; where there is no folder, it says how to name one', async () => {
  const home = await mkdtemp(join(tmpdir(), 'program-test-'))
  onTestFinished(() => rm(home, { recursive: true }))
  const absent = kept()
  expect(await run(['status', '--home', home], absent.terminal)).toBe(3)
  expect(absent.said()).toContain(
    `Name the configuration folder with --home or DEPUTY_HOME, or write one: deputy init ${home}`,
  )
  await writeFile(join(home, 'deputy.yaml'), 'environment: test\nissuer: http://127.0.0.1:7880\n')
  const named = kept()
  expect(await run(['status', '--home', home], named.terminal)).toBe(4)
  expect(named.said()).toMatch(new RegExp(`Next: deputy serve --home ${home}\n$`))
})

it('MCP clients get whole paths of the files of a stdio server, because they start it elsewhere', () => {
  const folder = import.meta.dirname
  const server = join(folder, 'program.test.ts')
  expect(fromAnywhere(['node', 'program.test.ts', '--flag', 'none.js', server], folder)).toEqual([
    'node',
    server,
    '--flag',
    'none.js',
    server,
  ])
  expect(fromAnywhere(['program.test.ts'], folder)).toEqual(['program.test.ts'])
  expect(fromAnywhere(['./program.test.ts'], folder)).toEqual([server])
})

it('lines for a shell never send npx to the registry, where the name deputy is another project', () => {
  const program = { node: '/opt/node/bin/node', file: '/tmp/a b/deputy.cjs' }
  expect(calledAs({ npm_command: 'exec' }, program)).toBe("/opt/node/bin/node '/tmp/a b/deputy.cjs'")
  expect(calledAs({ npm_lifecycle_event: 'deputy' }, program)).toBe('npm run -s deputy --')
  expect(calledAs({}, program)).toBe('deputy')
})
