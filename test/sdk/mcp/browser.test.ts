import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startWorld, type World } from '../../../quickstart/world.ts'
import type { ClientKey } from '../../../src/sdk/index.ts'
import { findChromium, passPeer, startChromium } from '../../support/chromium.ts'
import { connectMcpClient, startMcpServer, type McpClient, type RunningMcpServer } from '../../support/mcp.ts'

const executable = findChromium()
let world: World
let browser: Browser
let server: RunningMcpServer

/** What a person does with the link; the heading of the page at which it ends. */
const openLink = async (url: string, user: string): Promise<string | null> => {
  const context = await browser.newContext()
  try {
    const page = await context.newPage()
    await page.goto(url)
    await passPeer(page, user, world.idp.url)
    if ((await page.locator('h1').textContent()) === 'Connect Notes?') {
      await Promise.all([page.waitForNavigation(), page.locator('button[value=allow]').click()])
      await passPeer(page, `${user}-notes`, world.service.url)
    }
    return await page.locator('h1').textContent()
  } finally {
    await context.close()
  }
}

const connectAs = async (user: string, onUrl: (url: string) => Promise<'accept' | 'decline'>): Promise<McpClient> =>
  connectMcpClient({
    sdk: 'v2',
    url: server.url,
    token: await world.token(user, 'notes'),
    onUrl: ({ url }) => onUrl(url),
  })
const grants = async (): Promise<unknown> => JSON.parse((await world.deputy('grant', 'list', '--json')).out)

describe.skipIf(executable === undefined)('a tool call that needs a connection, in a real browser', () => {
  beforeAll(async () => {
    world = await startWorld(() => {}, { servers: false })
    browser = await startChromium(executable!)
    const config = JSON.parse(await readFile(join(world.home, 'notes-server.json'), 'utf8')) as {
      port: number
      socket: string
      issuer: string
      key: ClientKey['key']
    }
    server = await startMcpServer({
      sdk: 'v2',
      port: config.port,
      socket: config.socket,
      clientId: 'notes',
      clientKey: { key: config.key, issuer: config.issuer },
      wait: 300,
      tools: { list_notes: async ({ fetch }) => (await fetch('notes-api')(`${world.api.url}/notes`)).text() },
    })
  })
  afterAll(async () => {
    await server?.close()
    await browser?.close()
    await world?.close()
  })

  it("threat 11: a link that alice forwards to bob stops at the page, gives alice bob's notes in no call, and stores nothing", async () => {
    const ends: (string | null)[] = []
    const client = await connectAs('alice', async (url) => {
      return ends.push(await openLink(url, 'bob')) < 2 ? 'accept' : 'decline'
    })
    expect(await client.call('list_notes')).toEqual({
      isError: true,
      text: 'notes-api was not connected, so list_notes cannot continue.',
    })
    expect(ends).toEqual(['This did not work', 'This did not work'])
    expect(await grants()).toEqual([])
    await client.close()
  })

  it("tool call, elicitation, sign-in, consent, the service's consent, retry: the call that began it all succeeds", async () => {
    const ends: (string | null)[] = []
    const client = await connectAs('alice', async (url) => {
      ends.push(await openLink(url, 'alice'))
      return 'accept'
    })
    expect(await client.call('list_notes')).toEqual({
      isError: false,
      text: '{"user":"alice-notes","notes":["A note of alice-notes"]}',
    })
    expect(ends).toEqual(['Connected'])
    expect(await grants()).toMatchObject([{ user: 'alice', server: 'notes', scopes: ['notes:read'] }])
    await client.close()
  })
})
