import type { Clock, Random } from '../clock.ts'
import type { SigningKeys } from '../crypto/signing-keys.ts'
import type { SecretBackends } from '../secret/backends.ts'
import type { Leases } from '../secret/leases.ts'
import type { ReadSecret } from '../secret/reference.ts'
import type { Connector, Connectors } from './connector.ts'
import { createDynamicConnector } from './dynamic.ts'
import { createMintedConnector } from './minted.ts'
import { createStaticConnector, type RotationTerms } from './static.ts'

/** The connector of every kind. */
export const createConnectors = (deps: {
  /** Users' own grants: more than a connector, and made before the others. */
  readonly oauthGrant: Connector
  readonly minted: Pick<Parameters<typeof createMintedConnector>[0], 'issuer' | 'lifetime' | 'status'>
  readonly keys: SigningKeys
  readonly leases: Pick<Leases, 'obtain'>
  readonly backends: Pick<SecretBackends, 'dynamic'>
  /** Reads secrets as they are handed out, and says how they rotate. */
  readonly readSecret: ReadSecret
  readonly termsOf: (secret: Parameters<ReadSecret>[0]) => RotationTerms | undefined
  readonly clock: Clock
  readonly random: Random
}): Connectors => ({
  oauth_grant: deps.oauthGrant,
  minted: createMintedConnector({ ...deps, ...deps.minted }),
  static: createStaticConnector({ ...deps, read: deps.readSecret }),
  dynamic: createDynamicConnector({ ...deps, backendOf: (id) => deps.backends.dynamic(id) }),
})
