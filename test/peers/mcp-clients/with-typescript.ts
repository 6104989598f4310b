/** The official TypeScript SDKs: `with-typescript.ts v1|v2 URL TOOL...`, one line of JSON a step. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import {
  Client as ClientV2,
  StreamableHTTPClientTransport as TransportV2,
  UnauthorizedError as UnauthorizedV2,
  type OAuthClientProvider,
  type StoredOAuthClientInformation,
  type StoredOAuthTokens,
} from '@modelcontextprotocol/client'
import {
  UnauthorizedError as UnauthorizedV1,
  type OAuthClientProvider as OAuthClientProviderV1,
} from '@modelcontextprotocol/sdk/client/auth.js'
import { Client as ClientV1 } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport as TransportV1 } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js'

const say = (step: string, facts: object): void => {
  process.stdout.write(`${JSON.stringify({ step, ...facts })}\n`)
}

const [sdk, address, ...names] = process.argv.slice(2)
const url = new URL(address!)
const back = Promise.withResolvers<URLSearchParams>()
let came = back
const callback = createServer((request, response) => {
  response.end()
  came.resolve(new URL(request.url!, 'http://localhost').searchParams)
}).listen(0, '127.0.0.1')
await once(callback, 'listening')
const redirectUrl = `http://127.0.0.1:${(callback.address() as AddressInfo).port}/callback`

const { DEPUTY_TEST_CLIENT: registered } = process.env
const kept: { client?: StoredOAuthClientInformation; tokens?: StoredOAuthTokens; verifier?: string } =
  registered === undefined ? {} : { client: { client_id: registered } }
const provider: OAuthClientProvider = {
  redirectUrl,
  clientMetadata: { client_name: 'Test', redirect_uris: [redirectUrl], token_endpoint_auth_method: 'none' },
  clientInformation: () => kept.client,
  saveClientInformation(client) {
    kept.client = client
  },
  tokens: () => kept.tokens,
  saveTokens(tokens) {
    kept.tokens = tokens
  },
  saveCodeVerifier(verifier) {
    kept.verifier = verifier
  },
  codeVerifier: () => kept.verifier!,
  redirectToAuthorization(authorization) {
    came = Promise.withResolvers<URLSearchParams>()
    const [program, ...args] = process.env['BROWSER']!.replace(/&$/, '').trim().split(' ')
    spawn(
      program!,
      args.map((each) => each.replace('%s', authorization.href)),
      { stdio: 'ignore' },
    )
  },
}

interface Session {
  finish(answer: URLSearchParams): Promise<void>
  connect(): Promise<void>
  tools(): Promise<string[]>
  call(name: string): Promise<object>
  close(): Promise<void>
}
const info = { name: 'test', version: '1.0.0' }
const sessionV2 = (): Session => {
  const transport = new TransportV2(url, { authProvider: provider })
  const client = new ClientV2(info, { versionNegotiation: { mode: 'auto' } })
  return {
    finish: (answer) => transport.finishAuth(answer),
    connect: () => client.connect(transport),
    tools: async () => (await client.listTools()).tools.map(({ name }) => name),
    call: (name) => client.callTool({ name, arguments: {} }),
    close: () => client.close(),
  }
}
const sessionV1 = (): Session => {
  const transport = new TransportV1(url, { authProvider: provider as OAuthClientProviderV1 })
  const client = new ClientV1(info)
  return {
    finish: (answer) => transport.finishAuth(answer.get('code')!),
    connect: () => client.connect(transport as Transport),
    tools: async () => (await client.listTools()).tools.map(({ name }) => name),
    call: (name) => client.callTool({ name, arguments: {} }),
    close: () => client.close(),
  }
}

let session: Session
/** Once more after a sign-in, as the SDK's documentation says. */
const signedIn = async <T>(work: () => Promise<T>): Promise<T> => {
  try {
    return await work()
  } catch (error) {
    if (!(error instanceof UnauthorizedV1 || error instanceof UnauthorizedV2)) throw error
    await session.finish(await came.promise)
    return work()
  }
}
await signedIn(async () => {
  session = sdk === 'v1' ? sessionV1() : sessionV2()
  await session.connect()
})
say('tools', { tools: await session!.tools() })
for (const name of names) {
  try {
    const { content, isError } = (await signedIn(() => session.call(name))) as {
      content: { text: string }[]
      isError?: boolean
    }
    say(name, { text: content[0]!.text, isError: isError === true })
  } catch (error) {
    say(name, { text: String(error), isError: true })
  }
}
await session!.close()
callback.close()
callback.closeAllConnections()
