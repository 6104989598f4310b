import { randomUUID } from 'node:crypto'
import type { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import { UrlElicitationRequiredError } from '@modelcontextprotocol/sdk/types.js'
import type { Caller, Wanting } from './caller.ts'
import { questionOf, waitForConnection } from './connection.ts'
import type { Gate } from './gate.ts'
import type { Extra } from './v1-types.ts'

/** A service that the user has to connect before a tool can go on. */
export interface ConnectQuestion {
  readonly caller: Caller
  readonly server: McpServer
  readonly tool: string
  readonly wanting: Wanting
}

/** A connect link is valid for so long (ms). */
const LINK_LIFETIME_MS = 600_000

/** Asks the user of one session to connect services. */
export class ConnectElicitation {
  readonly #gate: () => Pick<Gate, 'deputy' | 'report'>
  /** How long a call waits for the user (ms). */
  readonly #wait: number
  /** Aborted at the end of the session. */
  readonly #ended: AbortSignal
  /** Ids of the questions that are open, by what they are about. */
  readonly #open = new Map<string, string>()

  constructor(gate: () => Pick<Gate, 'deputy' | 'report'>, options: { wait: number; ended: AbortSignal }) {
    this.#gate = gate
    this.#wait = options.wait
    this.#ended = options.ended
  }

  /** The error -32042 that answers a call. The client is notified when the user has connected the service. */
  asError(question: ConnectQuestion): UrlElicitationRequiredError {
    const { wanting } = question
    const key = JSON.stringify([wanting.request.downstream, wanting.request.scopes])
    let id = this.#open.get(key)
    if (id === undefined) {
      this.#open.set(key, (id = randomUUID()))
      this.#notifyWhenConnected(question, id)
        .catch((error: unknown) => {
          if (!this.#ended.aborted) this.#gate().report((error as Error).message)
        })
        .finally(() => {
          this.#open.delete(key)
        })
    }
    return new UrlElicitationRequiredError([
      { mode: 'url', elicitationId: id, url: wanting.url, message: questionOf(wanting) },
    ])
  }

  /**
   * Asks while the call runs. `unanswered`: the client does not take the question, or the user has not connected the
   * service in time.
   */
  async asRequest(
    { caller, server, tool, wanting }: ConnectQuestion,
    { requestId, signal }: Extra,
  ): Promise<'connected' | 'declined' | 'unanswered'> {
    const question = {
      mode: 'url' as const,
      elicitationId: randomUUID(),
      url: wanting.url,
      message: questionOf(wanting),
    }
    const answer = await server.server
      .elicitInput(question, { relatedRequestId: requestId, timeout: LINK_LIFETIME_MS, signal })
      .catch(() => undefined)
    if (answer === undefined) return 'unanswered'
    if (answer.action !== 'accept') return 'declined'
    // To accept is to have gone to the page, not to have finished there.
    const pending = { caller, tool, request: wanting.request, signal }
    return (await waitForConnection(this.#gate().deputy, pending, this.#wait)) ? 'connected' : 'unanswered'
  }

  async #notifyWhenConnected({ caller, server, tool, wanting }: ConnectQuestion, id: string): Promise<void> {
    const wait = Math.min(LINK_LIFETIME_MS, caller.user.token.expiresAt - Date.now())
    const pending = { caller, tool, request: wanting.request, signal: this.#ended }
    if (await waitForConnection(this.#gate().deputy, pending, wait))
      await server.server.createElicitationCompletionNotifier(id)()
  }
}
