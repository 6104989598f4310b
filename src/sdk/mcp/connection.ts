import { setTimeout as sleep } from 'node:timers/promises'
import { DeputyClientError } from '../error.ts'
import type { Deputy } from '../index.ts'
import type { Caller, CredentialRequest, Wanting } from './caller.ts'

/** How long a call that has asked its user to connect a service waits by default (ms). */
export const CONNECT_WAIT_MS = 30_000

const FIRST_PAUSE_MS = 500
const MAX_PAUSE_MS = 5000

/** Whether a client has declared URL elicitation: `{}` means forms only. */
export const takesUrls = (capabilities: unknown): boolean => {
  const elicitation =
    typeof capabilities === 'object' && capabilities !== null && 'elicitation' in capabilities
      ? capabilities.elicitation
      : undefined
  return (
    typeof elicitation === 'object' &&
    elicitation !== null &&
    'url' in elicitation &&
    typeof elicitation.url === 'object'
  )
}

/** The question to the user, which comes with the link. */
export const questionOf = ({ error }: Pick<Wanting, 'error'>): string =>
  `${error.message} Open the link to connect it; the call then continues.`

type TextResult = { content: { type: 'text'; text: string }[]; isError: true }

export const failed = (text: string): TextResult => ({ content: [{ type: 'text', text }], isError: true })

/** For clients that cannot open a link by themselves. */
export const plainly = (wanting: Pick<Wanting, 'error' | 'url'>): TextResult =>
  failed(`${wanting.error.message} Open this link to connect it, then try again: ${wanting.url}`)

/** A refusal of Deputy as a tool's result; other errors are left to the SDK. */
export const refusal = (error: DeputyClientError): TextResult =>
  failed(`${error.message}${error.correlationId === undefined ? '' : ` (${error.correlationId})`}`)

/** A credential for which the user has to connect a service. */
export interface PendingConnection {
  readonly caller: Caller
  readonly tool: string
  readonly request: CredentialRequest
  /** Ends the wait. */
  readonly signal: AbortSignal
}

/**
 * Tries until the user has connected a service: to accept the question is to have gone to the page, not to have
 * finished there.
 * @param options.isWorthWaiting whether a refusal may be another one in a moment; `wait` is ms at most
 * @throws what `work` throws when waiting does not help, or when the time is over; and the reason of the signal
 */
export const untilConnected = async <T>(
  work: () => Promise<T>,
  options: {
    readonly wait: number
    readonly signal: AbortSignal
    readonly isWorthWaiting: (error: DeputyClientError) => boolean
  },
): Promise<T> => {
  const { wait, signal, isWorthWaiting } = options
  const until = performance.now() + wait
  for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(MAX_PAUSE_MS, pause * 1.5)) {
    try {
      return await work()
    } catch (error) {
      signal.throwIfAborted()
      const mayHelp = error instanceof DeputyClientError && isWorthWaiting(error)
      if (!mayHelp || performance.now() + pause > until) throw error
    }
    await sleep(pause, undefined, { signal, ref: false })
  }
}

/**
 * Waits until the user has connected a service, by requesting the credential from Deputy: the person on the connect page
 * has to be this very user, no matter who has the link (threat 11).
 * @param wait ms at most
 * @returns false when the user has not connected it in time, or when a connection does not help
 */
export const waitForConnection = async (
  deputy: Pick<Deputy, 'token'>,
  { caller, tool, request, signal }: PendingConnection,
  wait: number,
): Promise<boolean> => {
  const onBehalfOf = caller.user.token.reveal()
  try {
    await untilConnected(() => deputy.token({ ...request, tool, onBehalfOf, signal }), {
      wait,
      signal,
      // A refusal that a connection does not cure, such as a revocation, is not worth waiting for.
      isWorthWaiting: ({ connectUrl, retryAfter }) => connectUrl !== undefined || retryAfter !== undefined,
    })
    return true
  } catch (error) {
    if (error instanceof DeputyClientError) return false
    throw error
  }
}
