import { setTimeout as sleep } from 'node:timers/promises'
import { DeputyClientError } from '../error.ts'
import type { Deputy } from '../index.ts'
import type { Caller, Wanting, Wish } from './caller.ts'

const FIRST_PAUSE = 500
const LONGEST_PAUSE = 5000

/** Whether a client has declared URL elicitation: `{}` means forms alone. */
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

/** What the user is told before the link. */
export const questionOf = ({ error }: Wanting): string =>
  `${error.message} Open the link to connect it; then this goes on.`

type TextResult = { content: { type: 'text'; text: string }[]; isError: true }

export const failed = (text: string): TextResult => ({ content: [{ type: 'text', text }], isError: true })

/** For clients that cannot open a link by themselves. */
export const plainly = (wanting: Wanting): TextResult =>
  failed(`${wanting.error.message} Open this link to connect it, then try again: ${wanting.url}`)

/** What a tool's result says of an error of Deputy's; other errors are the SDK's to tell. */
export const refusal = (error: DeputyClientError): TextResult =>
  failed(`${error.message}${error.correlationId === undefined ? '' : ` (${error.correlationId})`}`)

/**
 * Waits until the user has connected what was wanted, by asking Deputy: who comes to the connect page has to be this
 * very user there, whoever has the link (threat 11).
 * @param wait ms at most
 */
export const connected = async (
  deputy: Pick<Deputy, 'token'>,
  caller: Caller,
  tool: string,
  wish: Wish,
  wait: number,
  signal: AbortSignal,
): Promise<boolean> => {
  const until = performance.now() + wait
  for (let pause = FIRST_PAUSE; ; pause = Math.min(LONGEST_PAUSE, pause * 1.5)) {
    try {
      await deputy.token({ ...wish, tool, onBehalfOf: caller.user.token.reveal(), signal })
      return true
    } catch (error) {
      signal.throwIfAborted()
      if (!(error instanceof DeputyClientError)) throw error
      // What a connection does not cure, such as a revocation, is not worth waiting for.
      if (error.connectUrl === undefined && error.retryAfter === undefined) return false
    }
    if (performance.now() + pause > until) return false
    await sleep(pause, undefined, { signal, ref: false })
  }
}
