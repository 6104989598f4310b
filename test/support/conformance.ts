/**
 * What the MCP conformance suite is run against: the example client, and servers behind the middleware, with the tools that its scenarios ask
 * for, a real daemon and a real issuer. The suite knows nothing of tokens, so a forwarder puts one into each request
 * and changes nothing else of it.
 * @see https://github.com/modelcontextprotocol/conformance
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer, request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { McpServer as McpServerV1 } from '@modelcontextprotocol/sdk/server/mcp.js'
import {
  acceptedContent,
  inputRequired,
  McpServer as McpServerV2,
  type InputRequest,
  type ServerContext,
} from '@modelcontextprotocol/server'
import { parse } from 'yaml'
import { z } from 'zod'
import { createMcpListener as createListenerV2, type McpListener, type McpOptions } from '../../src/sdk/mcp/index.ts'
import { createMcpListener as createListenerV1 } from '../../src/sdk/mcp/v1.ts'
import { aCompany } from './configuration.ts'
import { startDaemonHere, startTestIssuer } from './daemon.ts'
import { signInForSuite } from './conformance-authorization.ts'
import { freePort } from './process.ts'

export const REVISIONS = ['2026-07-28', '2025-11-25'] as const
export type Revision = (typeof REVISIONS)[number]

const entrySchema = z
  .strictObject({
    scenarios: z.array(z.string()).min(1),
    revisions: z.array(z.enum(REVISIONS)).optional(),
    not_run: z.string().optional(),
  })
  .refine(
    ({ revisions, not_run: reason }) => (revisions === undefined) !== (reason === undefined),
    'a scenario has revisions, or a reason why it is not run',
  )
const listSchema = z.strictObject({
  server: z.array(entrySchema),
  client: z.array(entrySchema),
  authorization: z.array(entrySchema),
})
export type Kind = keyof z.output<typeof listSchema>

/** The scenarios, and why some are not run. */
export const readScenarios = async (): Promise<z.output<typeof listSchema>> =>
  listSchema.parse(parse(await readFile(join(import.meta.dirname, '../sdk/mcp/conformance.yaml'), 'utf8')))

const said = (text: string) => ({ content: [{ type: 'text' as const, text }] })

const form = (message: string, property: string, type: 'string' | 'boolean'): InputRequest =>
  inputRequired.elicit({
    message,
    requestedSchema: {
      type: 'object',
      properties: { [property]: type === 'string' ? { type: 'string' } : { type: 'boolean' } },
      required: [property],
    },
  })
const sampling = (text: string, maxTokens: number): InputRequest =>
  inputRequired.createMessage({ messages: [{ role: 'user', content: { type: 'text', text } }], maxTokens })
const nameSchema = z.object({ name: z.string() })

const listenerV2 = (options: McpOptions): McpListener =>
  createListenerV2(options, ({ options: serverOptions, tool, requestState }) => {
    const server = new McpServerV2(
      { name: 'conformance', version: '1.0.0' },
      { ...serverOptions, capabilities: { logging: {} } },
    )
    /** A tool that asks for inputs, with signed state, until all of them are there. */
    const asking = (
      name: string,
      requests: Readonly<Record<string, InputRequest>>,
      done: (responses: Readonly<Record<string, unknown>>, context: ServerContext) => string,
      withState: boolean,
    ): void => {
      tool(server, name, { description: 'Of the suite' }, async (_input, { mcp }) => {
        const responses = mcp.mcpReq.inputResponses ?? {}
        if (Object.keys(requests).every((key) => key in responses)) return said(done(responses, mcp))
        return inputRequired({
          inputRequests: { ...requests },
          ...(withState ? { requestState: await requestState.mint('state-ok', mcp) } : {}),
        })
      })
    }
    tool(server, 'test_simple_text', { description: 'Of the suite' }, () =>
      said('This is a simple text response for testing.'),
    )
    tool(server, 'test_error_handling', { description: 'Of the suite' }, () => {
      throw new Error('This tool intentionally returns an error for testing')
    })
    tool(server, 'test_tool_with_progress', { description: 'Of the suite' }, async (_input, { mcp }) => {
      const progressToken = mcp.mcpReq._meta?.progressToken
      for (const progress of [0, 50, 100]) {
        if (progressToken !== undefined)
          await mcp.mcpReq.notify({ method: 'notifications/progress', params: { progressToken, progress, total: 100 } })
        await sleep(50)
      }
      return said('done')
    })
    tool(server, 'test_input_required_result_elicitation', { description: 'Of the suite' }, (_input, { mcp }) => {
      const answer = acceptedContent(mcp.mcpReq.inputResponses, 'user_name', nameSchema)
      return answer === undefined
        ? inputRequired({ inputRequests: { user_name: form('What is your name?', 'name', 'string') } })
        : said(`Hello, ${answer.name}!`)
    })
    asking(
      'test_input_required_result_sampling',
      { capital_question: sampling('What is the capital of France?', 100) },
      (responses) => JSON.stringify(responses),
      false,
    )
    asking(
      'test_input_required_result_list_roots',
      { client_roots: inputRequired.listRoots() },
      (responses) => JSON.stringify(responses),
      false,
    )
    asking(
      'test_input_required_result_request_state',
      { confirm: form('Please confirm', 'ok', 'boolean') },
      (_responses, { mcpReq }) => String(mcpReq.requestState()),
      true,
    )
    asking(
      'test_input_required_result_tampered_state',
      { confirm: form('Please confirm', 'ok', 'boolean') },
      () => 'done',
      true,
    )
    asking(
      'test_input_required_result_multiple_inputs',
      {
        user_name: form('What is your name?', 'name', 'string'),
        greeting: sampling('Generate a greeting', 50),
        client_roots: inputRequired.listRoots(),
      },
      (responses) => JSON.stringify(responses),
      true,
    )
    tool(server, 'test_input_required_result_multi_round', { description: 'Of the suite' }, async (_input, { mcp }) => {
      const step = mcp.mcpReq.requestState<number>() ?? 0
      if (step === 2) return said('done')
      const requests =
        step === 0
          ? { step1: form('Step 1: What is your name?', 'name', 'string') }
          : { step2: form('Step 2: What is your favorite color?', 'color', 'string') }
      return inputRequired({ inputRequests: requests, requestState: await requestState.mint(step + 1, mcp) })
    })
    tool(server, 'test_input_required_result_capabilities', { description: 'Of the suite' }, (_input, { mcp }) => {
      const envelope: Readonly<Record<string, unknown>> = mcp.mcpReq.envelope ?? {}
      return inputRequired({
        inputRequests: JSON.stringify(envelope['io.modelcontextprotocol/clientCapabilities'])?.includes('"sampling"')
          ? { question: sampling('Hello?', 10) }
          : { question: form('Hello?', 'answer', 'string') },
      })
    })
    tool(server, 'test_missing_capability', { description: 'Of the suite' }, () =>
      inputRequired({ inputRequests: { question: sampling('Hello?', 10) } }),
    )
    tool(
      server,
      'test_custom_header',
      { description: 'Of the suite', inputSchema: z.object({ region: z.string().meta({ 'x-mcp-header': 'Region' }) }) },
      ({ region }) => said(region),
    )
    tool(server, 'test_streaming_elicitation', { description: 'Of the suite' }, () =>
      inputRequired({ inputRequests: { question: form('Hello?', 'answer', 'string') } }),
    )
    tool(server, 'test_logging_tool', { description: 'Of the suite' }, async (_input, { mcp }) => {
      await mcp.mcpReq.log('info', 'logged')
      return said('done')
    })
    server.registerResource('text', 'test://text', { description: 'Of the suite' }, (uri) => ({
      contents: [{ uri: uri.href, text: 'text' }],
    }))
    server.registerPrompt('test_input_required_result_prompt', { description: 'Of the suite' }, ({ mcpReq }) => {
      const answer = acceptedContent(mcpReq.inputResponses, 'user_context', z.object({ context: z.string() }))
      if (answer === undefined)
        return inputRequired({
          inputRequests: { user_context: form('What context should the prompt use?', 'context', 'string') },
        })
      return { messages: [{ role: 'user', content: { type: 'text', text: answer.context } }] }
    })
    return server
  })

const listenerV1 = (options: McpOptions): McpListener =>
  createListenerV1(options, ({ tool }) => {
    const server = new McpServerV1({ name: 'conformance', version: '1.0.0' }, { capabilities: { logging: {} } })
    tool(server, 'test_simple_text', { description: 'Of the suite' }, () =>
      said('This is a simple text response for testing.'),
    )
    tool(server, 'test_error_handling', { description: 'Of the suite' }, () => {
      throw new Error('This tool intentionally returns an error for testing')
    })
    tool(server, 'test_tool_with_logging', { description: 'Of the suite' }, async (_input, { mcp }) => {
      for (const data of ['Tool execution started', 'Tool processing data', 'Tool execution completed']) {
        await mcp.sendNotification({ method: 'notifications/message', params: { level: 'info', data } })
        await sleep(50)
      }
      return said('done')
    })
    tool(server, 'test_tool_with_progress', { description: 'Of the suite' }, async (_input, { mcp }) => {
      const progressToken = mcp._meta?.progressToken
      for (const progress of [0, 50, 100]) {
        if (progressToken !== undefined)
          await mcp.sendNotification({
            method: 'notifications/progress',
            params: { progressToken, progress, total: 100 },
          })
        await sleep(50)
      }
      return said('done')
    })
    tool(
      server,
      'test_sampling',
      { description: 'Of the suite', inputSchema: z.object({ prompt: z.string() }) },
      async ({ prompt }) => {
        const { content } = await server.server.createMessage({
          messages: [{ role: 'user', content: { type: 'text', text: prompt } }],
          maxTokens: 100,
        })
        return said(`LLM response: ${JSON.stringify(content)}`)
      },
    )
    tool(
      server,
      'test_elicitation',
      { description: 'Of the suite', inputSchema: z.object({ message: z.string() }) },
      async ({ message }) => {
        const { action, content } = await server.server.elicitInput({
          message,
          requestedSchema: {
            type: 'object',
            properties: { username: { type: 'string' }, email: { type: 'string' } },
            required: ['username', 'email'],
          },
        })
        return said(`User response: <action: ${action}, content: ${JSON.stringify(content)}>`)
      },
    )
    return server
  })

export interface ConformanceTarget {
  readonly url: string
  close(): Promise<void>
}

/** Starts a server of the SDK for a revision, and what it needs. */
export const startConformanceTarget = async (revision: Revision): Promise<ConformanceTarget> => {
  const [port, front] = [await freePort(), await freePort()]
  const resource = `http://127.0.0.1:${port}/mcp`
  const issuer = await startTestIssuer()
  const daemon = await startDaemonHere(aCompany({ issuer: issuer.url, notes: { resource } }))
  const listener = (revision === '2026-07-28' ? listenerV2 : listenerV1)({ socket: daemon.socketPath })
  const server = createServer(listener)
  const token = await issuer.sign({ aud: resource, org: 'acme', exp: Math.floor(Date.now() / 1000) + 3600 })
  const forwarder = createServer((incoming, response) => {
    const outgoing = request(
      {
        host: '127.0.0.1',
        port,
        method: incoming.method,
        path: incoming.url,
        headers: { ...incoming.headers, authorization: `Bearer ${token}` },
      },
      (answer) => {
        response.writeHead(answer.statusCode ?? 500, answer.headers)
        response.flushHeaders()
        answer.pipe(response)
      },
    )
    outgoing.on('error', () => {
      response.destroy()
    })
    response.on('close', () => {
      outgoing.destroy()
    })
    incoming.pipe(outgoing)
  })
  await Promise.all([
    once(server.listen(port, '127.0.0.1'), 'listening'),
    once(forwarder.listen(front, '127.0.0.1'), 'listening'),
  ])
  return {
    url: `http://127.0.0.1:${front}/mcp`,
    async close() {
      for (const each of [forwarder, server]) {
        each.close()
        each.closeAllConnections()
      }
      await listener.close()
      await daemon.close()
      await issuer.close()
    },
  }
}

const checksSchema = z.array(z.looseObject({ id: z.string(), status: z.string(), errorMessage: z.string().optional() }))
export interface ScenarioResult {
  readonly scenario: string
  readonly revision: Revision
  readonly passed: number
  readonly failures: readonly string[]
}

/** Path of the suite's command. */
const SUITE = join(import.meta.dirname, '../../node_modules/@modelcontextprotocol/conformance/dist/index.js')

/** Runs the suite in a process, which writes a folder a scenario. @returns what it said */
const runSuite = async (
  folder: string,
  revision: Revision,
  args: readonly string[],
  printed: (output: string) => void = () => undefined,
): Promise<string> => {
  const child = spawn(process.execPath, [SUITE, ...args, '--spec-version', revision, '--output-dir', folder], {
    stdio: ['ignore', 'pipe', 'pipe'],
    cwd: folder,
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => {
      output += chunk.toString('utf8')
      printed(output)
    })
  await once(child, 'close')
  return output
}

/** What the name of a scenario's folder begins with. */
const FOLDER_PREFIX = { server: 'server-', client: '', authorization: 'authorization-server-' } as const

/** What the suite has written of a scenario: in a folder `<scenario>-<time>`, after a prefix of its kind; a `/` of its name is a folder of its own. */
const readResult = async (
  folder: string,
  { kind, scenario, revision, said }: { kind: Kind; scenario: string; revision: Revision; said: string },
): Promise<ScenarioResult> => {
  const names = await readdir(folder, { recursive: true })
  const begin = `${FOLDER_PREFIX[kind]}${scenario}-2`
  const found = names.find((name) => name.endsWith('checks.json') && name.startsWith(begin))
  if (found === undefined)
    return { scenario, revision, passed: 0, failures: [`the suite wrote no result: ${said.slice(-500)}`] }
  const checks = checksSchema.parse(JSON.parse(await readFile(join(folder, found), 'utf8')))
  const counted = checks.filter(({ status }) => status === 'SUCCESS' || status === 'FAILURE')
  const failures = counted
    .filter(({ status }) => status === 'FAILURE')
    .map(({ id, errorMessage = '' }) => `${id}: ${errorMessage}`)
  return {
    scenario,
    revision,
    passed: counted.length - failures.length,
    failures: counted.length === 0 ? ['nothing was checked'] : failures,
  }
}

/** ms that a scenario may take. */
const LIMIT = ['--timeout', '240000']

/** Runs all scenarios in one process, those that the list leaves out too, and reads those that are wanted. */
const runServer = (url: string, scenarios: readonly string[], revision: Revision): Promise<ScenarioResult[]> =>
  inFolder(async (folder) => {
    const said = await runSuite(folder, revision, ['server', '--url', url, '--suite', 'all', ...LIMIT])
    return Promise.all(scenarios.map((scenario) => readResult(folder, { kind: 'server', scenario, revision, said })))
  })

/**
 * As with servers. The suite starts all clients at once: each waits for its turn at a lock, so that one runs at a time.
 * For a scenario that the list leaves out, no client is started.
 */
const runClient = (scenarios: readonly string[], revision: Revision): Promise<ScenarioResult[]> =>
  inFolder(async (folder) => {
    if (scenarios.length === 0) return []
    const script = join(folder, 'client.sh')
    await writeFile(
      script,
      `case "$MCP_CONFORMANCE_SCENARIO" in\n${scenarios.join('|')}) exec flock ${join(folder, 'turn')} ${CLIENT} "$@" ;;\nesac\nexit 1\n`,
    )
    const command = `sh ${script}`
    const said = await runSuite(folder, revision, ['client', '--command', command, '--suite', 'all', ...LIMIT])
    return Promise.all(scenarios.map((scenario) => readResult(folder, { kind: 'client', scenario, revision, said })))
  })

/** Deputy as the authorization server: its metadata, and an authorization code from nothing. */
const runAuthorization = (scenarios: readonly string[], revision: Revision): Promise<ScenarioResult[]> =>
  inFolder(async (folder) => {
    if (scenarios.length === 0) return []
    const said = await signInForSuite((args, printed) => runSuite(folder, revision, args, printed))
    return Promise.all(
      scenarios.map((scenario) => readResult(folder, { kind: 'authorization', scenario, revision, said })),
    )
  })

const inFolder = async <T>(work: (folder: string) => Promise<T>): Promise<T> => {
  const folder = await mkdtemp(join(tmpdir(), 'deputy-conformance-'))
  try {
    return await work(folder)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** Every scenario that the suite has, by its kind. */
export const listScenarios = async (): Promise<Readonly<Record<Kind, string[]>>> => {
  const child = spawn(process.execPath, [SUITE, 'list'], { stdio: ['ignore', 'pipe', 'inherit'] })
  let output = ''
  child.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString('utf8')
  })
  await once(child, 'close')
  const [, server = '', client = '', authorization = ''] = output.split(
    /^(?:Server|Client|Authorization server) scenarios.*:$/m,
  )
  const names = (part: string): string[] => [...part.matchAll(/^ {2}- (\S+)/gm)].map(([, name]) => name!)
  return { server: names(server), client: names(client), authorization: names(authorization) }
}

/** The example client, as the suite starts it; with the server's URL after it. */
const CLIENT = `${process.execPath} ${join(import.meta.dirname, '../../examples/mcp-client.ts')}`

/** Runs what the list says for a revision. */
export const runRevision = async (revision: Revision): Promise<ScenarioResult[]> => {
  const { server, client, authorization } = await readScenarios()
  const namesOf = (entries: typeof server): string[] =>
    entries.flatMap(({ scenarios, revisions = [] }) => (revisions.includes(revision) ? scenarios : []))
  const target = await startConformanceTarget(revision)
  try {
    return (
      await Promise.all([
        runServer(target.url, namesOf(server), revision),
        runClient(namesOf(client), revision),
        runAuthorization(namesOf(authorization), revision),
      ])
    ).flat()
  } finally {
    await target.close()
  }
}
