import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { json } from 'node:stream/consumers'
import { Command } from 'commander'
import { expect, it } from 'vitest'
import { addLossCommands } from '../../src/cli/commands/store-losses.ts'

const LOSSES = [
  { id: 'one', node: 'a', at: 1, detail: { problem: 'lost', written_again: { grants: ['g1'] } } },
  { id: '--json', node: 'c', at: 0, detail: { problem: 'forged' } },
  { id: 'x; reboot', node: 'b\u001b[2J', at: 2, detail: { problem: 7, written_again: { grants: 'g1', records: [1] } } },
]

it('fault 104: shows every loss, also beside one that was altered in the store, and acknowledges those that are named', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'deputy-losses-'))
  const asked: unknown[] = []
  const server = createServer((request, response) => {
    void (async () => {
      if (request.method === 'POST') asked.push(await json(request))
      response.end(JSON.stringify(request.method === 'POST' ? { acknowledged: 1 } : LOSSES))
    })()
  })
  await once(server.listen(join(folder, 'socket')), 'listening')
  const out: string[] = []
  const run = async (...words: string[]): Promise<string> => {
    const store = new Command('store').exitOverride().configureOutput({ writeErr: () => undefined })
    addLossCommands(store, { out: (text: string) => out.push(text) } as never, () =>
      Promise.resolve(join(folder, 'socket')),
    )
    await store.parseAsync(words, { from: 'user' })
    return out.splice(0).join('')
  }
  try {
    const shown = await run('losses')
    expect(shown).toContain('noticed by a (one): lost')
    expect(shown).toContain('written again, grants: g1')
    expect(shown).toContain('noticed by b\\u{1b}[2J (x; reboot)')
    expect(shown).toContain("deputy store acknowledge -- one --json 'x; reboot'")
    expect(await run('acknowledge', 'one', 'gone')).toContain('Acknowledged: 1.\nThe others are not open')
    expect(asked).toEqual([{ losses: ['one', 'gone'] }])
    await run('acknowledge', '--', 'one', '--json')
    expect(asked[1]).toEqual({ losses: ['one', '--json'] })
    await expect(run('acknowledge')).rejects.toMatchObject({ code: 'commander.missingArgument' })
  } finally {
    server.close()
    await rm(folder, { recursive: true, force: true })
  }
})
