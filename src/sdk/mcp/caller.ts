import { inspect } from 'node:util'
import { DeputyClientError } from '../error.ts'
import type { Fetch } from '../fetch.ts'
import type { Deputy } from '../index.ts'
import type { Introspected } from '../registration.ts'
import { Token } from '../token.ts'

/** The user who calls, verified by Deputy for this server and this request. */
export interface McpUser {
  readonly sub: string
  readonly tenant: string
  readonly issuer: string
  /** Whether it is no user but an agent, whose id can be that of a user. */
  readonly isAgent: boolean
  /** Scopes of the user's token. */
  readonly scopes: readonly string[]
  /** The client that the user uses, if the token says so. */
  readonly clientId: string | undefined
  /** The user's token for this server, which prints itself as `[token]`. It is for no service: request one of the service. */
  readonly token: Token
}

/** A credential that a tool requests. */
export interface CredentialRequest {
  readonly downstream: string
  readonly scopes?: readonly string[]
  readonly signal?: AbortSignal
}

/** @deprecated The former name of `CredentialRequest`; it goes in the next version. */
export type Wish = CredentialRequest

/** What Deputy says of a caller; tools are looked up one at a time. */
export type VerifiedCaller = Omit<Introspected, 'tools'> & { readonly tools: Pick<Introspected['tools'], 'get'> }

/** A request of a verified user; travels to the tools inside of `authInfo.extra`. */
export class Caller {
  readonly user: McpUser
  /** Of what was asked, without what a retry changes. */
  readonly digest: string
  readonly #introspected: VerifiedCaller
  constructor(introspected: VerifiedCaller, token: string, digest: string) {
    const { user: sub, tenant, issuer, isAgent, scopes, tokenType: type, clientId, expiresAt } = introspected
    this.user = {
      sub,
      tenant,
      issuer,
      isAgent,
      scopes,
      clientId,
      token: new Token(token, { type, scopes, expiresAt, warning: undefined }),
    }
    this.digest = digest
    this.#introspected = introspected
  }

  /** Who it is, over all requests. */
  get principal(): string {
    const { tenant, issuer, sub, isAgent } = this.user
    return JSON.stringify([tenant, issuer, isAgent ? 'agent' : 'user', sub])
  }

  /** What the server's file says of a tool; `*` stands for all that it does not list. */
  #tool(name: string) {
    return this.#introspected.tools.get(name) ?? this.#introspected.tools.get('*')
  }

  /** A tool of which the server's file says nothing asks nothing of policy. */
  mayCall(tool: string): boolean {
    return this.#tool(tool)?.allowed ?? true
  }

  /** For each of these tools that policy hides from the user: a line for the server's operator. Names that the file does not list are not in it. */
  hiddenTools(tools: readonly string[]): string[] {
    const { correlationId = 'unknown' } = this.#introspected
    return [...new Set(tools)].flatMap((tool) => {
      const registered = this.#tool(tool)
      if (registered === undefined || registered.allowed) return []
      return [
        `A client called the tool ${tool}, which is hidden from its user: ${registered.denied ?? 'Policy does not allow it.'} deputy explain ${correlationId} shows the rule.`,
      ]
    })
  }

  /** Scopes that the user's token lacks for these tools. For a tool that policy forbids no scope would be enough. */
  missingScopes(tools: readonly string[]): string[] {
    const required = tools.filter((tool) => this.mayCall(tool)).flatMap((tool) => this.#tool(tool)?.requires ?? [])
    return [...new Set(required)].filter((scope) => !this.user.scopes.includes(scope))
  }

  [inspect.custom](): string {
    return `[user ${this.user.sub} of ${this.user.tenant}]`
  }
}

/** What both SDKs call `AuthInfo`. The token in it is a word: the real one is in `user.token`. */
export interface AuthInfo {
  token: string
  clientId: string
  scopes: string[]
  expiresAt: number
  resource: URL
  extra: Record<string, unknown>
}

export const authInfoOf = (caller: Caller, resource: string): AuthInfo => ({
  token: String(caller.user.token),
  clientId: caller.user.clientId ?? 'unknown',
  scopes: [...caller.user.scopes],
  expiresAt: Math.floor(caller.user.token.expiresAt / 1000),
  resource: new URL(resource),
  extra: { deputy: caller },
})

/** @throws Error when the request did not come through the listener */
export const callerOf = (authInfo: { extra?: Record<string, unknown> } | undefined): Caller => {
  const caller = authInfo?.extra?.['deputy']
  if (!(caller instanceof Caller)) throw new Error('This request did not come through the listener of deputy-sdk/mcp.')
  return caller
}

/** What a tool receives besides its input. @typeParam Context the SDK's own context of the request */
export interface ToolCall<Context> {
  readonly user: McpUser
  /** A credential of a service, for this user and this tool. A service that the user has not connected yet becomes a question to the user. */
  token(request: CredentialRequest): Promise<Token>
  /** A `fetch` that carries a credential of the service. */
  fetch(downstream: string, more?: Pick<CredentialRequest, 'scopes'>): Fetch
  readonly mcp: Context
}

/** A call, and the credentials that it requested for which the user has to connect a service first. */
export interface Tracked<Context> {
  readonly call: ToolCall<Context>
  /** The request that failed with this error; undefined for errors that a connection does not cure. */
  wanting(error: unknown): Wanting | undefined
}

/** A credential for which the user has to connect a service, and the link. */
export interface Wanting {
  readonly request: CredentialRequest
  readonly error: DeputyClientError
  readonly url: string
}

/** The call that a handler receives: each credential is requested for the caller and the tool. */
export const createToolCall = <Context>(
  deputy: Pick<Deputy, 'token' | 'fetch'>,
  { user }: Caller,
  tool: string,
  mcp: Context,
): Tracked<Context> => {
  const wantings = new Map<unknown, Wanting>()
  const track = async <T>(request: CredentialRequest, work: Promise<T>): Promise<T> => {
    try {
      return await work
    } catch (error) {
      if (error instanceof DeputyClientError && error.connectUrl !== undefined)
        wantings.set(error, { request, error, url: error.connectUrl })
      throw error
    }
  }
  const onBehalfOf = user.token.reveal()
  return {
    call: {
      user,
      mcp,
      token: (request) => track(request, deputy.token({ ...request, tool, onBehalfOf })),
      fetch: (downstream, more = {}) => {
        const send = deputy.fetch(downstream, onBehalfOf, { ...more, tool })
        return (input, init) => track({ ...more, downstream }, send(input, init))
      },
    },
    wanting: (error) => wantings.get(error),
  }
}
