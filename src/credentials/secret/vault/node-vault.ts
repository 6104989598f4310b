/**
 * `node-vault`, and what keeps it safe: it makes the addresses and the requests of Vault's API, and Deputy's guarded way out
 * sends them (docs/decisions/0013-vaults.md). Its own HTTP library is never called.
 */
import { refuse } from '#errors'
import type { Secret } from '#foundation/crypto'

/** What it hands to its request function. */
interface Prepared {
  readonly method: string
  readonly uri: string
  readonly headers: Readonly<Record<string, string>>
  readonly json?: object
  /** ms, as it was given with the call. */
  readonly timeout: number
  /** Where the answer goes: what it makes of one has neither headers nor, of a failure, the text. */
  readonly answered: (answer: SentAnswer) => void
}
type Client = ReturnType<Awaited<ReturnType<typeof load>>>

export interface SentAnswer {
  readonly response: Response
  readonly text: string
}

/** Sends one request, and reads the answer as a whole. Everything that bounds both is here. */
export type SendPrepared = (request: {
  readonly url: string
  readonly method: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: string | undefined
  /** ms */
  readonly timeout: number
}) => Promise<SentAnswer>

export interface NodeVaultCall {
  readonly method: string
  /** Below `/v1/`; segments are encoded already. */
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly token: Secret | undefined
  readonly namespace: string | undefined
  readonly body: object | undefined
  /** ms */
  readonly timeout: number
}

/** It turns what its templates have escaped back into slashes: nothing that Deputy asks for has such text in it. */
const ESCAPED = /&/

/** Loaded with the first request: a daemon without a Vault has no use for it. */
const load = async () => (await import('node-vault')).default

/**
 * @param endpoint base URL, without `/v1`
 * @returns what asks there. @throws what `send` throws
 */
export const createNodeVault = (
  endpoint: string,
  send: SendPrepared,
): ((call: NodeVaultCall) => Promise<SentAnswer>) => {
  const through = async ({ method, uri, headers, json, timeout, answered }: Prepared) => {
    const body = json === undefined ? undefined : JSON.stringify(json)
    const answer = await send({ url: uri, method, headers, body, timeout })
    answered(answer)
    // It says no more than this to us: `answered` has the rest.
    return { statusCode: 204, body: undefined, request: { path: new URL(uri).pathname } }
  }
  const create = async (): Promise<Client> => {
    const client = (await load())({
      apiVersion: 'v1',
      endpoint,
      // In the place of axios, which follows redirects with the token, reads proxies from the environment, and has no bound.
      'request-promise': { defaults: () => through },
      // Its own prints what is written when DEBUG asks for that.
      debug: () => undefined,
      // No templates: they would escape mounts and names as HTML.
      commands: {},
    })
    // What was not given it has read from VAULT_TOKEN, VAULT_NAMESPACE and VAULT_PREFIX.
    client.token = client.namespace = client.pathPrefix = ''
    return client
  }
  let created: Promise<Client> | undefined
  return async ({ method, path, headers, token, namespace, body, timeout }) => {
    if (ESCAPED.test(path.split('?')[0]!))
      throw refuse('internal', { problem: 'a path of Vault has a character that no id, mount or role has' })
    const client = await (created ??= create())
    let found: SentAnswer | undefined
    await client.request({
      method,
      path: `/${path}`,
      // An object of its own for each call: it writes into it.
      headers: {
        ...headers,
        ...(token === undefined ? {} : { 'X-Vault-Token': token.reveal() }),
        ...(namespace === undefined ? {} : { 'X-Vault-Namespace': namespace }),
      },
      ...(body === undefined ? {} : { json: body }),
      timeout,
      answered: (answer: SentAnswer) => {
        found = answer
      },
    })
    return found!
  }
}
