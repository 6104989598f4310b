import { createEgress, type Egress, readHostRoutes } from '#foundation/outbound'
import type { readSettings } from '../home.ts'

type Network = Awaited<ReturnType<typeof readSettings>>['network']

/**
 * The network as the daemon uses it: with its guard, and by the settings of the home. @throws DeputyError
 * `config_invalid`
 */
export const egressOf = async (home: string, network: Network): Promise<Egress & { close(): Promise<void> }> =>
  createEgress({
    allowLoopback: network.allow_loopback,
    allowPrivate: network.allow_private,
    timeout: network.timeout,
    routes: await readHostRoutes(home, network.hosts),
  })
