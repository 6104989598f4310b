import type { Clock, Random } from '../clock.ts'
import type { SigningKeys } from '../crypto/signing-keys.ts'
import type { SecretBackends } from '../secret/backends.ts'
import type { Leases } from '../secret/leases.ts'
import type { ReadSecret, ResolveSecret } from '../secret/reference.ts'
import { createClientCredentialsConnector } from './client-credentials.ts'
import type { Connector, Connectors } from './connector.ts'
import { createDynamicConnector } from './dynamic.ts'
import { createEntraOnBehalfOfConnector } from './entra-obo.ts'
import { createIdJagConnector } from './id-jag.ts'
import { createJwtBearerConnector } from './jwt-bearer.ts'
import { createMintedConnector } from './minted.ts'
import type { ProviderClients } from './provider/client.ts'
import type { RequestToken } from './provider/token-request.ts'
import { createStaticConnector, type RotationTerms } from './static.ts'
import { createTokenExchangeConnector } from './token-exchange.ts'

/** The connector of every kind. */
export const createConnectors = (deps: {
  /** Users' own grants: more than a connector, and made before the others. */
  readonly oauthGrant: Connector
  readonly idJag: Pick<Parameters<typeof createIdJagConnector>[0], 'identityToken' | 'identityProviders' | 'call' | 'connectUrl'>
  readonly requestToken: RequestToken
  readonly clients: ProviderClients
  readonly resolveSecret: ResolveSecret
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
  client_credentials: createClientCredentialsConnector(deps),
  token_exchange: createTokenExchangeConnector(deps),
  entra_obo: createEntraOnBehalfOfConnector(deps),
  jwt_bearer: createJwtBearerConnector(deps),
  id_jag: createIdJagConnector({ ...deps, ...deps.idJag }),
  dynamic: createDynamicConnector({ ...deps, backendOf: (id) => deps.backends.dynamic(id) }),
})
