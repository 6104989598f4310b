/** Requests to providers by commands: through the guard of the daemon, by the settings of the home. */
import type { Egress } from '#foundation/outbound'
import { readSettings } from '../home.ts'
import { egressOf } from './egress.ts'

export interface ProviderNetwork {
  readonly egress: Egress
  readonly allowInsecure: boolean
}

/** Runs work with the network as the daemon uses it. */
export const withProviders = async <T>(home: string, work: (network: ProviderNetwork) => Promise<T>): Promise<T> => {
  const { network } = await readSettings(home)
  const egress = await egressOf(home, network)
  try {
    return await work({ egress, allowInsecure: network.allow_loopback })
  } finally {
    await egress.close()
  }
}
