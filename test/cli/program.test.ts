/** A command line loads the commands that it needs. */
import type { Command } from 'commander'
import { expect, it } from 'vitest'
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
