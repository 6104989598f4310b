import type { TrustedIssuer } from '#config'
import { DeputyError } from '#errors'
import { createEgress, type Egress, readHostRoutes } from '#foundation/outbound'
import { createIssuerMetadata, readIssuerJson } from '#identity/subject'
import type { readSettings } from './home.ts'

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

/** Why tokens of an issuer cannot be verified, as a sentence; undefined when they can. */
export const problemOfIssuer = async (
  home: string,
  network: Network,
  { issuer }: Pick<TrustedIssuer, 'issuer'>,
): Promise<string | undefined> => {
  const egress = await egressOf(home, network)
  try {
    const { jwks_uri: keys } = await createIssuerMetadata({ egress, clock: { now: Date.now } })(issuer)
    if (keys === undefined) return `${issuer} names no key set (jwks_uri) in its metadata.`
    await readIssuerJson(egress, keys, 'its key set')
    return undefined
  } catch (error) {
    return error instanceof DeputyError ? error.message : `${issuer}: ${(error as Error).message}.`
  } finally {
    await egress.close()
  }
}
