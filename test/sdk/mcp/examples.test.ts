import { readFile, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parse, stringify } from 'yaml'
import { startWorld, type World } from '../../../quickstart/world.ts'
import { connectMcpClient } from '../../support/mcp.ts'
import { startProcess, stopProcess } from '../../support/process.ts'

const EXAMPLES = resolve(import.meta.dirname, '../../../examples')
let world: World
beforeAll(async () => {
  world = await startWorld(() => {}, { servers: false })
  // The examples prove who they are by the Unix user as whom they run.
  const file = join(world.home, 'servers/notes.yaml')
  await writeFile(
    file,
    stringify({ ...(parse(await readFile(file, 'utf8')) as object), attest: [{ unix: { uid: process.getuid!() } }] }),
  )
  expect((await world.deputy('reload')).code).toBe(0)
})
afterAll(async () => {
  await world?.close()
})

describe('the examples', () => {
  it.each(['v2', 'v1'] as const)(
    'mcp-server-%s.ts runs as its header says, knows its user and asks for the connection',
    async (sdk) => {
      const child = await startProcess([join(EXAMPLES, `mcp-server-${sdk}.ts`)], /listening/, {
        ...process.env,
        DEPUTY_SOCKET: join(world.home, 'run/deputy.sock'),
        PORT: new URL(world.servers.notes.url).port,
        NOTES_API: world.api.url,
      })
      try {
        const accessToken = await world.token('alice', 'notes')
        const client = await connectMcpClient({ sdk, url: world.servers.notes.url, token: accessToken })
        expect(await client.tools()).toEqual(['whoami', 'list_notes'])
        expect(await client.call('whoami')).toEqual({ isError: false, text: 'You are alice of acme.' })
        expect(await client.call('list_notes')).toMatchObject({
          isError: true,
          text: expect.stringContaining(`${world.connectUrl}/connect/`),
        })
        await client.close()
      } finally {
        await stopProcess(child)
      }
    },
  )
})
