import type { IncomingMessage, ServerResponse } from 'node:http'
import { refuse } from '#errors'
import type { BeginExec } from '#flows/exchange'
import { Secret } from '#foundation/crypto'
import type { ExecEvent, ExecSession, PeerProcess } from '#identity/workload'
import { describable, type Form } from '#listeners/http'

/** How a started server reaches the injecting proxy. */
export interface ExecProxy {
  /** http URL without user and password: the user is the server, the password the session's token. */
  readonly url: string
  /** PEM: the authority that signs the certificates of the proxy. */
  readonly ca: string
}

const PID = /^[1-9]\d{0,9}$/

const lineOf = (event: ExecEvent): object =>
  event.event === 'changed' || event.error === undefined
    ? event.event === 'changed'
      ? event
      : { event: 'ended' }
    : {
        event: 'ended',
        reason: event.error.code,
        error_description: describable(event.error.message),
        next: describable(event.error.next),
      }

/**
 * `POST /exec`: begins an exec session that lasts as long as the answer, a stream of JSON lines. The first is `session`, with
 * its token and the server's mapping; then `changed` when a credential of the mapping has been replaced; the last is `ended`.
 * It takes the server and the pid of a child of the caller, and nothing about what that child runs.
 */
export const createExecEndpoint =
  (deps: {
    begin: BeginExec
    form: (request: IncomingMessage) => Promise<Form>
    peer: (request: IncomingMessage) => Promise<PeerProcess | undefined>
    proxy: (session: ExecSession) => ExecProxy | undefined
  }) =>
  async (request: IncomingMessage, response: ServerResponse, correlationId: string): Promise<void> => {
    const form = await deps.form(request)
    const caller = await deps.peer(request)
    if (caller === undefined) throw refuse('malformed_request', { problem: 'exec sessions need the Unix socket' })
    const { socket } = request
    if (socket.readableEnded)
      throw refuse('malformed_request', {
        problem: 'an exec session lasts as long as its connection, and its sending side is closed',
      })
    const pid = form.required('pid')
    if (!PID.test(pid)) throw refuse('malformed_request', { problem: 'pid is not a process id' })
    const resume = form.optional('resume')
    let end = (): void => undefined
    let gone = false
    response.once('close', () => {
      gone = true
      end()
    })
    // Other requests may be half-closed; here the end of what is sent is the end of the program.
    const hungUp = (): void => {
      response.destroy()
    }
    socket.once('end', hungUp)
    response.once('close', () => {
      socket.off('end', hungUp)
    })
    const write = (line: object): void => {
      if (!gone) response.write(`${JSON.stringify(line)}\n`)
    }
    const begun = await deps.begin({
      correlationId,
      caller,
      server: form.required('server'),
      pid: Number(pid),
      ...(resume === undefined ? {} : { resume: new Secret(resume) }),
      notify(event) {
        // Before the first line there is an error to be answered instead.
        if (!response.headersSent) return
        write(lineOf(event))
        if (event.event === 'ended') response.end()
      },
    })
    end = begun.end
    if (gone) {
      end()
      return
    }
    const { session, token, mapping, warning } = begun
    const proxy = mapping.proxy ? deps.proxy(session) : undefined
    response.writeHead(200, {
      'Content-Type': 'application/x-ndjson',
      'Cache-Control': 'no-store',
      Connection: 'close',
      'X-Correlation-Id': correlationId,
    })
    write({
      event: 'session',
      session: session.id,
      server: session.server,
      token: token.reveal(),
      tenant: session.tenant,
      user: session.user ?? null,
      mapping,
      ...(proxy === undefined ? {} : { proxy }),
      ...(warning === undefined ? {} : { warning }),
    })
  }
