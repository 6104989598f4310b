import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { startHostedWorld, type HostedWorld } from '../support/hosted.ts'
import { runCli } from '../support/process.ts'

let world: HostedWorld
beforeAll(async () => {
  world = await startHostedWorld({
    api: { tools: [{ operation: 'getInvoice', timeout: '1s' }, { tag: 'invoices' }] },
  })
}, 60_000)
afterAll(async () => {
  vi.unstubAllEnvs()
  await world?.close()
})

const users = { alice: { groups: ['accounting'] }, bob: {} }
const invoice = { type: 'object', required: ['id', 'amount', 'status'] }

/** Writes a file of cases and runs it. */
const test = async (file: object, args: string[] = ['--simulate']) => {
  const path = join(world.daemon.home, 'cases.yaml')
  await world.daemon.write({ 'cases.yaml': file })
  const { code, out, err } = await runCli(world.daemon.home, ['test', path, ...args, '--json'])
  return {
    code,
    err,
    ...(JSON.parse(out === '' ? '{}' : out) as {
      passed?: number
      failed?: number
      skipped?: number
      results?: { name: string; problems: string[] }[]
      calls?: number
    }),
  }
}

describe('deputy test --simulate', () => {
  it('policies, arguments, answers and faults are tested without a daemon, a network or a credential', async () => {
    const before = world.api.seen.length
    const { code, results, failed, err } = await test({
      server: 'billing-tools',
      users,
      cases: [
        { name: 'what bob sees', user: 'bob', expect: { tools: ['getInvoice', 'listInvoices'] } },
        {
          name: 'an answer',
          user: 'alice',
          tool: 'getInvoice',
          arguments: { id: 'i1' },
          expect: { schema: invoice, at: { '/status': 'open' }, requests: 1 },
        },
        {
          name: 'policy hides',
          user: 'bob',
          tool: 'deleteInvoice',
          arguments: { id: 'i1' },
          expect: { outcome: 'hidden', requests: 0 },
        },
        {
          name: 'wrong arguments',
          user: 'alice',
          tool: 'getInvoice',
          expect: { outcome: 'refused', reason: 'tool_arguments_invalid' },
        },
        {
          name: 'one failure is repeated',
          user: 'alice',
          tool: 'getInvoice',
          arguments: { id: 'i1' },
          fault: { status: 503 },
          expect: { requests: 2 },
        },
        {
          name: 'a write is not',
          user: 'alice',
          tool: 'createInvoice',
          arguments: { amount: 1 },
          fault: { status: 503 },
          expect: { outcome: 'error', text: '503', requests: 1 },
        },
        {
          name: 'a long pause',
          user: 'alice',
          tool: 'getInvoice',
          arguments: { id: 'i1' },
          fault: { status: 429, retry_after: 60 },
          expect: { outcome: 'error', text: '429', requests: 1 },
        },
        {
          name: '401 twice',
          user: 'alice',
          tool: 'getInvoice',
          arguments: { id: 'i1' },
          fault: { status: 401, times: 5 },
          expect: { outcome: 'error', text: '401', requests: 2 },
        },
        {
          name: 'too slow',
          user: 'alice',
          tool: 'createInvoice',
          arguments: { amount: 1 },
          fault: { latency: '100ms' },
          expect: { outcome: 'answer' },
        },
        {
          name: 'half an answer',
          user: 'alice',
          tool: 'createInvoice',
          arguments: { amount: 1 },
          fault: { half: true },
          expect: { outcome: 'error' },
        },
      ],
    })
    expect({ code, failed, problems: results?.flatMap(({ problems }) => problems), err }).toEqual({
      code: 0,
      failed: 0,
      problems: [],
      err: '',
    })
    expect(world.api.seen.length).toBe(before)
  })

  it('a wrong expectation fails, and says what was there; JUnit and load have the same cases', async () => {
    const junit = join(world.daemon.home, 'results.xml')
    const { code, results } = await test(
      {
        server: 'billing-tools',
        users,
        cases: [
          { name: 'denied & <shown>', user: 'bob', tool: 'deleteInvoice', arguments: { id: 'i1' }, expect: {} },
          {
            name: 'another value',
            user: 'alice',
            tool: 'getInvoice',
            arguments: { id: 'i1' },
            expect: { at: { '/status': 'paid' } },
          },
        ],
      },
      ['--simulate', '--junit', junit],
    )
    expect(code).toBe(1)
    expect(results?.map(({ problems }) => problems)).toEqual([
      [expect.stringContaining('hidden')],
      [expect.stringContaining('"open", not "paid"')],
    ])
    const xml = await readFile(junit, 'utf8')
    expect(xml).toContain('tests="2" failures="2"')
    expect(xml).toContain('denied &amp; &lt;shown&gt;')
    const load = await test(
      {
        server: 'billing-tools',
        users,
        cases: [{ name: 'get', user: 'alice', tool: 'getInvoice', arguments: { id: 'i1' }, expect: {} }],
      },
      ['--simulate', '--load', '--seconds', '1', '--callers', '4'],
    )
    expect(load.code).toBe(0)
    expect(load.calls).toBeGreaterThan(10)
  })

  it('a mistake in the file has its line and what to write', async () => {
    const { code, err } = await test({
      server: 'billing-tools',
      users,
      cases: [{ name: 'x', user: 'carol', tool: 'a', expect: { outcome: 'fine' } }],
    })
    expect(code).toBe(3)
    expect(err).toMatch(/cases\.yaml:\d+/)
    expect(err).toMatch(/outcome/)
    const bare = await test({ server: 'billing-tools', users, cases: [{ name: 'x', user: 'bob', tool: 'a' }] })
    expect(bare.err).toMatch(/cases\.0 \(x\)\.expect is missing.*docs\/testing-tools\.md/s)
    expect((await runCli(world.daemon.home, ['test', 'nowhere.yaml'])).err).toBe('There is no file nowhere.yaml.\n')
    const other = await test({ server: 'nothing', users, cases: [{ name: 'x', user: 'bob', tool: 'a', expect: {} }] })
    expect(other.code).not.toBe(0)
    expect(other.err).toMatch(/apis/)
  })
})

describe('deputy test at a running server', () => {
  it('over HTTP, with a token of each user', async () => {
    vi.stubEnv('ALICE_TOKEN', await world.tokenOf('alice', ['accounting']))
    await world.daemon.write({ 'bob.token': await world.tokenOf('bob') })
    const { code, results, err, passed, skipped } = await test(
      {
        server: 'billing-tools',
        users: { alice: { token: { env: 'ALICE_TOKEN' } }, bob: { token: { file: 'bob.token' } } },
        cases: [
          { name: 'what bob sees', user: 'bob', expect: { tools: ['getInvoice', 'listInvoices'] } },
          {
            name: 'an answer',
            user: 'alice',
            tool: 'getInvoice',
            arguments: { id: 'i1' },
            expect: { at: { '/id': 'i1' } },
          },
          {
            name: 'hidden',
            user: 'bob',
            tool: 'deleteInvoice',
            arguments: { id: 'i1' },
            expect: { outcome: 'hidden' },
          },
          {
            name: 'a fault, which a real API does not take orders for',
            user: 'alice',
            tool: 'getInvoice',
            arguments: { id: 'i1' },
            fault: { status: 503 },
            expect: { requests: 2 },
          },
        ],
      },
      [],
    )
    expect({ passed, skipped }).toEqual({ passed: 3, skipped: 1 })
    expect({ code, problems: results?.flatMap(({ problems }) => problems), err }).toEqual({
      code: 0,
      problems: [],
      err: '',
    })
  })

  it('over stdio, at any MCP server', async () => {
    await world.daemon.write({
      'server.mjs': `import { createInterface } from 'node:readline'
const say = (id, result) => process.stdout.write(JSON.stringify({ jsonrpc: '2.0', id, result }) + '\\n')
createInterface({ input: process.stdin }).on('line', (line) => {
  const { id, method, params } = JSON.parse(line)
  if (method === 'initialize') say(id, { protocolVersion: params.protocolVersion, capabilities: { tools: {} }, serverInfo: { name: 'x', version: '1' } })
  else if (method === 'tools/list') say(id, { tools: [{ name: 'greet', inputSchema: { type: 'object' } }] })
  else if (method === 'tools/call') say(id, { content: [{ type: 'text', text: 'hello' }], structuredContent: { hello: 'world' } })
  else if (id !== undefined) process.stdout.write(JSON.stringify({ jsonrpc: '2.0', id, error: { code: -32601, message: 'no such method' } }) + '\\n')
})`,
    })
    const { code, results, err } = await test(
      {
        command: [process.execPath, 'server.mjs'],
        users: { me: {} },
        cases: [
          { name: 'tools', user: 'me', expect: { tools: ['greet'] } },
          { name: 'greets', user: 'me', tool: 'greet', expect: { at: { '/hello': 'world' }, text: 'hello' } },
        ],
      },
      [],
    )
    expect({ code, problems: results?.flatMap(({ problems }) => problems), err }).toEqual({
      code: 0,
      problems: [],
      err: '',
    })
  })
})
