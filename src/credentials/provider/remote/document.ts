import { DeputyError, refuse } from '#errors'
import { connectionProblem, type Egress, type EgressInit, told } from '#foundation/outbound'

/** The longest metadata document, challenge or registration answer that is read (bytes). */
const MAX_BYTES = 262_144

/** A refusal of a remote MCP server or of its authorization server. @param url the server that the admin named */
export const refuseRemote = (url: string, problem: string, cause?: unknown): DeputyError =>
  refuse('remote_server_refused', { url, problem }, cause)

/** What a URL answered. */
export interface RemoteAnswer {
  readonly status: number
  readonly headers: Headers
  /** Parsed JSON; undefined where the body is none. */
  readonly json: unknown
  /** A short form of the body without anything that could be a secret. */
  readonly words: string
}

/**
 * One request to a server that no file names yet: bounded, over the guarded way out, and without redirects, because each address is
 * derived from the one that the admin typed or from metadata that names it (threat 6).
 * @throws DeputyError `egress_refused`, `remote_server_refused`
 */
export const askRemote = async (egress: Egress, url: string, init: EgressInit = {}): Promise<RemoteAnswer> => {
  let response: Response
  let text: string
  try {
    response = await egress(url, {
      ...init,
      headers: { accept: 'application/json', ...(init.headers as Record<string, string> | undefined) },
      maxBytes: MAX_BYTES,
      redirects: 0,
    })
    text = await response.text()
  } catch (error) {
    if (error instanceof DeputyError) throw error
    throw refuseRemote(
      url,
      connectionProblem(error) ??
        ((error as Error).name === 'TimeoutError' ? 'it did not answer in time' : 'it cannot be reached'),
      error,
    )
  }
  if (response.status >= 300 && response.status < 400)
    throw refuseRemote(url, 'it redirects, and metadata is read only at the address that the standards name')
  return { status: response.status, headers: response.headers, json: jsonOf(text), words: told(text) }
}

const jsonOf = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** Whether an answer says that there is no such document, so that the next address is asked. */
export const isAbsent = ({ status }: RemoteAnswer): boolean => status >= 400 && status < 500 && status !== 429

/** A path after `/.well-known/NAME`: empty for the root (RFC 8414 section 3.1, RFC 9728 section 3.1). */
export const pathOf = (url: URL): string => (url.pathname === '/' ? '' : url.pathname.replace(/\/$/, ''))
