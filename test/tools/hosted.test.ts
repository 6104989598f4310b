import { Client } from '@modelcontextprotocol/client'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import { API_KEY, startHostedWorld, type HostedWorld } from '../support/hosted.ts'

let world: HostedWorld
beforeAll(async () => {
  world = await startHostedWorld()
}, 60_000)
afterAll(async () => {
  await world.close()
})

type Revision = { pin: '2026-07-28' } | 'legacy'

const connect = async (token: string, revision: Revision = { pin: '2026-07-28' }): Promise<Client> => {
  const client = new Client({ name: 'test', version: '1.0.0' }, { versionNegotiation: { mode: revision } })
  await client.connect(
    new StreamableHTTPClientTransport(new URL(world.url), {
      requestInit: { headers: { authorization: `Bearer ${token}` } },
    }),
  )
  return client
}

describe.each<Revision>([{ pin: '2026-07-28' }, 'legacy'])('tools of an API (%j)', (revision) => {
  it("a tool is called with the user's own rights and the tenant's credential, which the caller never sees", async () => {
    const client = await connect(await world.tokenOf('alice', ['accounting']), revision)
    const { tools } = await client.listTools()
    expect(tools.map(({ name }) => name).sort()).toEqual([
      'createInvoice',
      'deleteInvoice',
      'getInvoice',
      'listInvoices',
    ])
    const result = await client.callTool({ name: 'getInvoice', arguments: { id: 'i1' } })
    expect(result).toMatchObject({ structuredContent: { id: 'i1', amount: 120 } })
    const last = world.api.seen.at(-1)!
    expect(last).toMatchObject({
      method: 'GET',
      url: '/v1/invoices/i1',
      headers: { authorization: `Bearer ${API_KEY}` },
    })
    expect(JSON.stringify(result)).not.toContain(API_KEY)
    await client.close()
  })

  it('promise 1: a tool that policy denies is neither listed nor callable by its name', async () => {
    const client = await connect(await world.tokenOf('bob', []), revision)
    const { tools } = await client.listTools()
    expect(tools.map(({ name }) => name).sort()).toEqual(['getInvoice', 'listInvoices'])
    const before = world.api.seen.length
    await expect(client.callTool({ name: 'deleteInvoice', arguments: { id: 'i1' } })).rejects.toThrow(/not found/)
    expect(world.api.seen.length).toBe(before)
    await client.close()
  })
})
