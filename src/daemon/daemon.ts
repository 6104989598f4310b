/**
 * The composition root: builds every part in six stages, passes each what it needs, and runs the daemon's life. The clock,
 * randomness and the environment come in from the CLI.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { socketFolderProblems } from '#config'
import type { ReloadResult } from '#daemon/configuration'
import type { DeputyError } from '#errors'
import { asStartFailure } from '#foundation/files'
import { watchConfiguration } from './configuration-watch.ts'
import { createContext, warn, type DaemonContext, type DaemonOptions } from './context.ts'
import { startMaintenance } from './maintenance.ts'
import { createServiceManager } from './service-manager.ts'
import { createCredentials } from './stages/credentials.ts'
import { createFlows, type Made } from './stages/flows.ts'
import { openFoundation } from './stages/foundation.ts'
import { createIdentity } from './stages/identity.ts'
import { openListeners } from './stages/listeners.ts'
import { openSecrets } from './stages/secrets.ts'

export interface Daemon {
  readonly addresses: {
    readonly socket: string
    readonly admin: string
    readonly tcp: string | null
    readonly proxy: readonly string[]
    readonly connect: string
    readonly mcp: string | null
    readonly metrics: string | null
  }
  reload(): Promise<ReloadResult>
  /** Resolves when another daemon has this node's name and this one has to end; it hands out nothing any more. */
  readonly replaced: Promise<DeputyError>
  /** Stops accepting, lets requests under way finish, closes the books. */
  stop(): Promise<void>
}

/** Everything but the lines and what listens. */
const build = async (context: DaemonContext): Promise<Made> => {
  const foundation = await openFoundation(context)
  const secrets = await openSecrets(context, foundation)
  const identity = createIdentity(context, foundation, secrets)
  const credentials = createCredentials(context, foundation, secrets, identity)
  return { ...foundation, ...secrets, ...identity, ...credentials }
}

/** Starts once every part exists: rotations, leases, the watch over files, and the tasks of every minute. */
const startWork = async (context: DaemonContext, made: Made, reload: Daemon['reload']): Promise<void> => {
  const { snapshot, logger, atEnd } = context
  await made.rotation.start()
  await made.leases.sweep()
  made.leases.start()
  const reloadLogged = async (): Promise<void> => {
    await reload().catch((error: unknown) => {
      logger.error({ err: error }, 'reload failed: the configuration could not be read')
    })
  }
  atEnd(watchConfiguration(snapshot, reloadLogged))
  startMaintenance(context, made)
}

const record = (
  { newId, version, settings }: DaemonContext,
  { audit }: Made,
  event: 'daemon.start' | 'daemon.stop',
): Promise<void> => {
  const started = event === 'daemon.start' ? { version, environment: settings.environment } : {}
  return audit.append({ id: newId(), event, outcome: 'done', detail: { ...started, pid: process.pid } })
}

/** @throws DeputyError `config_invalid`, `start_failed` and others of the taxonomy, nothing else; nothing is left open then */
export const startDaemon = async (options: DaemonOptions): Promise<Daemon> => {
  await using stack = new AsyncDisposableStack()
  try {
    return await start(await createContext(options, stack), stack)
  } catch (error) {
    throw asStartFailure(error)
  }
}

/** @param stack moved out when the daemon runs, so that only a failed start closes what it had opened */
const start = async (context: DaemonContext, stack: AsyncDisposableStack): Promise<Daemon> => {
  const { home, version, settings, logger, configuration, observed, background } = context
  let draining = false
  const made = await build(context)
  const flows = createFlows(context, made)
  observed.gauge(
    'deputy.configuration.refused',
    'Whether the configuration folder as it is now was refused; what was read before it is in force',
    () => (configuration.refused.length > 0 ? 1 : 0),
  )
  await record(context, made, 'daemon.start')
  const { addresses, reload, closeAll } = await openListeners(context, { ...made, ...flows }, () => draining)
  warn(logger, await socketFolderProblems(home, settings))
  await startWork(context, made, reload)
  logger.info({ socket: addresses.socket, connect: made.pagesUrl, version }, 'deputy is ready')
  const manager = createServiceManager({
    environment: context.environment,
    pid: process.pid,
    monotonicMicroseconds: () => process.hrtime.bigint() / 1000n,
    logger,
    atEnd: context.atEnd,
  })
  await manager.ready()
  const everything = stack.move()
  return {
    addresses,
    async reload() {
      await manager.reloading()
      try {
        return await reload()
      } finally {
        await manager.ready()
      }
    },
    replaced: made.replaced,
    async stop() {
      draining = true
      logger.info({}, 'deputy is stopping')
      await manager.stopping()
      if (settings.limits.shutdown_delay > 0) await sleep(settings.limits.shutdown_delay)
      // A program that `deputy exec` has started keeps running, and begins a new session with the next daemon.
      made.execSessions.close()
      await closeAll()
      await background.ended()
      await record(context, made, 'daemon.stop').catch((error: unknown) => {
        logger.error({ err: error }, 'the stop was not recorded')
      })
      await everything.disposeAsync()
    },
  }
}
