import { setTimeout as sleep } from 'node:timers/promises'
import { CommandError, exit } from '../terminal.ts'
import { formatFailure } from './failure.ts'
import type { Running } from './running.ts'
import type { Session } from './session.ts'

/** What reconnecting needs of the supervisor. */
export interface ReconnectContext {
  /** How long the daemon may be unreachable (ms). */
  readonly timeout: number
  readonly notify: (text: string) => void
  isStopped(): boolean
  /** Whether the child still is the command. */
  isCurrent(running: Running): boolean
  /** Opens the child's session again, with the token of its previous one. @throws CommandError */
  resume(running: Running): Promise<Session>
  stop(code: number): Promise<void>
  renew(): void
}

const FIRST_PAUSE_MS = 200
const MAX_PAUSE_MS = 2000

/** Resumes the session of a running command after the daemon went away; the command continues to run in the meantime. */
export const reconnect = async (running: Running, context: ReconnectContext): Promise<void> => {
  context.notify('Lost the connection to Deputy; the server continues to run. Reconnecting.')
  const until = performance.now() + context.timeout
  for (
    let pause = FIRST_PAUSE_MS;
    !context.isStopped() && context.isCurrent(running);
    pause = Math.min(MAX_PAUSE_MS, pause * 1.5)
  ) {
    try {
      await resumeSession(running, context)
      return
    } catch (error) {
      const isUnreachable = !(error instanceof CommandError) || error.code === exit.unreachable
      if (context.isStopped() || !context.isCurrent(running)) return
      if (!isUnreachable || performance.now() + pause > until) {
        context.notify(`${formatFailure(error)}\n  The server is ended.`)
        await context.stop(isUnreachable ? exit.unreachable : exit.failed)
        return
      }
      await sleep(pause, undefined, { ref: false })
    }
  }
}

const resumeSession = async (running: Running, context: ReconnectContext): Promise<void> => {
  const { start: before } = running.lifeSession
  running.lifeSession = await context.resume(running)
  if (context.isStopped()) {
    running.lifeSession.close()
    return
  }
  const { start } = running.lifeSession
  if (start.tenant !== before.tenant || start.user !== before.user) {
    context.notify('The Unix user has signed in as another user. The server is ended.')
    await context.stop(exit.failed)
    return
  }
  context.notify('Reconnected to Deputy.')
  context.renew()
}
