/** Whether a running daemon has taken over files that a command has changed. */
import { z } from 'zod'
import { formatProblem } from '#config'
import { adminSocket } from '../home.ts'
import { type SocketAnswer, sendOverSocket } from '../socket-client.ts'

export const reloadSchema = z.looseObject({
  applied: z.boolean(),
  generation: z.number(),
  problems: z.array(z.object({ file: z.string(), line: z.number(), message: z.string(), fix: z.string() })),
  restart_needed: z.array(z.string()),
})

/** How long the daemon may take to read its files again (ms). */
const RELOAD_WAIT_MS = 20_000

const sentenceOf = ({ status, text }: SocketAnswer): string => {
  const unclear = 'The daemon has not said whether it has reloaded. Run: deputy reload'
  if (status !== 200) return unclear
  const { data } = reloadSchema.safeParse(JSON.parse(text))
  if (data === undefined) return unclear
  if (!data.applied)
    return `The daemon keeps its current configuration:\n${data.problems.map(formatProblem).join('\n')}`
  const restart = data.restart_needed.length === 0 ? '' : ` After a restart also: ${data.restart_needed.join(', ')}.`
  return `The daemon has reloaded: configuration ${data.generation} is active.${restart}`
}

/**
 * Has a running daemon read its files again, which it also does by itself soon.
 * @returns a sentence for people; undefined where no daemon runs on this home
 */
export const daemonReload = async (home: string): Promise<string | undefined> => {
  try {
    return sentenceOf(
      await sendOverSocket(await adminSocket(home), {
        path: '/reload',
        method: 'POST',
        signal: AbortSignal.timeout(RELOAD_WAIT_MS),
      }),
    )
  } catch (error) {
    switch ((error as NodeJS.ErrnoException).code) {
      case 'ENOENT':
      case 'ECONNREFUSED':
      case 'ENOTDIR':
        return undefined
      case 'EACCES':
      case 'EPERM':
        return 'A daemon of another user reads the files by itself. As that user, deputy reload shows the result.'
      default:
        return 'The daemon has not said whether it has reloaded. Run: deputy reload'
    }
  }
}
