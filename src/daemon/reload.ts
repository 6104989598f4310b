import type { ReloadResult } from '#daemon/configuration'
import type { DaemonContext } from './context.ts'
import type { Made } from './stages/flows.ts'

/**
 * Reads the configuration folder again. A folder with a mistake changes nothing; one without is in force as a whole, and what
 * rests on the files follows: rotations, leases, the sockets of databases.
 * @param parts.databaseSockets opens and closes sockets of databases as the files say now
 * @param parts.toolsChanged tells MCP clients that tools may have changed
 */
export const createReload = (
  { configuration, logger, newId }: DaemonContext,
  { rotation, leases, audit }: Made,
  parts: {
    readonly describeNode: () => Promise<void>
    readonly databaseSockets: () => Promise<void>
    readonly toolsChanged: () => void
  },
): (() => Promise<ReloadResult>) => {
  const apply = async ({ generation, restart_needed }: ReloadResult): Promise<void> => {
    await parts.describeNode()
    await rotation.reconcile()
    await leases.sweep()
    await parts.databaseSockets().catch((error: unknown) => {
      logger.error({ err: error }, 'the socket of a Redis downstream could not be opened')
    })
    parts.toolsChanged()
    logger.info({ generation, restart_needed }, 'configuration reloaded')
  }
  return async () => {
    const result = await configuration.reload()
    if (result.applied) await apply(result)
    else logger.error({ problems: result.problems }, 'reload rejected; keeping the current configuration')
    await audit.append({
      id: newId(),
      event: 'config.reload',
      outcome: result.applied ? 'done' : 'failed',
      detail: { generation: result.generation, problems: result.problems, restart_needed: result.restart_needed },
    })
    return result
  }
}
