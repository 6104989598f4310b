/**
 * An MCP client that signs in where the server's metadata says, calls every tool once and ends. The sign-in follows the
 * authorization server's redirects by itself, as a browser of somebody who has signed in before would.
 * Usage: node mcp-client.ts URL
 */
import {
  Client,
  StreamableHTTPClientTransport,
  UnauthorizedError,
  type OAuthClientProvider,
  type StoredOAuthClientInformation,
  type StoredOAuthTokens,
} from '@modelcontextprotocol/client'

const url = new URL(process.argv[2]!)
const REDIRECT = 'http://localhost:3000/callback'
/** Where a client says who it is (client ID metadata document). */
const CLIENT_URL = 'https://conformance-test.local/client-metadata.json'
/** What the suite, or whoever registered the client, gives beforehand. */
const given = JSON.parse(process.env['MCP_CONFORMANCE_CONTEXT'] ?? '{}') as {
  client_id?: string
  client_secret?: string
}

const kept: {
  client?: StoredOAuthClientInformation
  tokens?: StoredOAuthTokens
  verifier?: string
  state?: string
  callback?: URLSearchParams
} = {}
if (given.client_id !== undefined)
  kept.client = {
    client_id: given.client_id,
    ...(given.client_secret === undefined ? {} : { client_secret: given.client_secret }),
  }
const provider: OAuthClientProvider = {
  redirectUrl: REDIRECT,
  clientMetadataUrl: CLIENT_URL,
  clientMetadata: {
    client_name: 'example',
    redirect_uris: [REDIRECT],
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
  },
  state() {
    kept.state = crypto.randomUUID()
    return kept.state
  },
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
  async redirectToAuthorization(address) {
    const answer = await fetch(address, { redirect: 'manual' })
    const back = new URL(answer.headers.get('location') ?? '', address)
    if (back.searchParams.get('state') !== kept.state) throw new Error('The answer is to another sign-in.')
    kept.callback = back.searchParams
  },
}

/** Does something that may ask the user to sign in, first or with more scopes, and does it again afterwards; twice at most. */
const signedIn = async <Result>(
  transport: () => StreamableHTTPClientTransport,
  work: () => Promise<Result>,
): Promise<Result> => {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await work()
    } catch (error) {
      if (!(error instanceof UnauthorizedError) || attempt === 2 || kept.callback === undefined) throw error
      const { callback } = kept
      delete kept.callback
      await transport().finishAuth(callback)
    }
  }
}

let transport = new StreamableHTTPClientTransport(url, { authProvider: provider })
let client: Client
await signedIn(
  () => transport,
  async () => {
    transport = new StreamableHTTPClientTransport(url, { authProvider: provider })
    client = new Client({ name: 'example', version: '1.0.0' }, { versionNegotiation: { mode: 'auto' } })
    await client.connect(transport)
  },
)
const { tools } = await signedIn(
  () => transport,
  () => client.listTools(),
)
for (const { name } of tools)
  await signedIn(
    () => transport,
    () => client.callTool({ name, arguments: {} }),
  )
await client!.close()
