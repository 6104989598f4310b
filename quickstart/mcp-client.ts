/**
 * An MCP client that knows only the server's URL: it is refused, reads the metadata, registers at Deputy, and sends its user to
 * sign in. The official SDK does all of it; a person with a browser is the one part that is played here.
 */
import {
  auth,
  type OAuthClientProvider,
  type OAuthDiscoveryState,
  type StoredOAuthClientInformation,
  type StoredOAuthTokens,
} from '@modelcontextprotocol/client'
import { createBrowser, type Page } from '../test/peers/walk.ts'

/** Where the client would listen; the browser stops before it. */
const REDIRECT_URL = 'http://127.0.0.1:1/callback'
/** Sign-in, consent, and some to spare. */
const MOST_FORMS = 5

/** @param answer what the user writes into the form of a page. @returns the access token for the server */
export const signInFromNothing = async (
  serverUrl: string,
  answer: (page: Page) => Readonly<Record<string, string>>,
): Promise<string> => {
  const kept: {
    client?: StoredOAuthClientInformation
    tokens?: StoredOAuthTokens
    verifier?: string
    at?: URL
    discovery?: OAuthDiscoveryState
  } = {}
  const provider: OAuthClientProvider = {
    redirectUrl: REDIRECT_URL,
    clientMetadata: {
      client_name: 'Quickstart client',
      redirect_uris: [REDIRECT_URL],
      token_endpoint_auth_method: 'none',
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
    saveDiscoveryState(state) {
      kept.discovery = state
    },
    discoveryState: () => kept.discovery,
    codeVerifier: () => kept.verifier!,
    redirectToAuthorization(at) {
      kept.at = at
    },
  }
  await auth(provider, { serverUrl })
  const browser = createBrowser({ stopAt: (url) => url.startsWith(`${REDIRECT_URL}?`) })
  let page = await browser.open(kept.at!.href)
  for (let form = 0; page.status !== 0 && form < MOST_FORMS; form += 1) page = await browser.submit(page, answer(page))
  const back = new URL(page.url).searchParams
  const code = back.get('code')
  if (code === null) throw new Error(`the sign-in ended at ${page.url} with ${page.status}: ${page.body.slice(0, 500)}`)
  await auth(provider, {
    serverUrl,
    authorizationCode: code,
    ...(back.get('iss') === null ? {} : { iss: back.get('iss')! }),
  })
  return kept.tokens!.access_token
}
