import type { Clock, Random } from '#clock'
import type { CredentialKind } from '#config'
import type { CallProvider, ProviderClients } from '#credentials/provider'
import type { Leases, ReadSecret, ResolveSecret, SecretBackends } from '#credentials/secret'
import type { SigningKeys } from '#foundation/keys'
import type { Egress } from '#foundation/outbound'
import { createAzureConnector } from './cloud/azure.ts'
import { createClientCredentialsConnector } from './token-endpoint/client-credentials.ts'
import type { Connector, Connectors } from './connector.ts'
import { createDynamicConnector } from './vault/dynamic.ts'
import { createEntraOnBehalfOfConnector } from './token-endpoint/entra-obo.ts'
import { createIdJagConnector } from './token-endpoint/id-jag.ts'
import { createJwtBearerConnector } from './token-endpoint/jwt-bearer.ts'
import { createMintedConnector } from './minted/minted.ts'
import { createGcpStsConnector } from './cloud/gcp-sts.ts'
import { createGitHubAppConnector } from './github/github-app.ts'
import { createCloudAssertions } from './token-endpoint/federated-assertion.ts'
import type { AskProvider } from './token-endpoint/ask.ts'
import { createMtlsCertificateConnector } from './token-endpoint/mtls-certificate.ts'
import type { RequestToken } from './token-endpoint/token-request.ts'
import { createStaticConnector, type RotationTerms } from './static.ts'
import { createTokenExchangeConnector } from './token-endpoint/token-exchange.ts'

const cloudAssertionsOf = (
  deps: Pick<Parameters<typeof createCloudAssertions>[0], 'keys' | 'clock' | 'random'> & {
    readonly minted: Pick<Parameters<typeof createCloudAssertions>[0], 'issuer'>
  },
) => createCloudAssertions({ ...deps, ...deps.minted })

/** A connector whose libraries are loaded with its first request: a daemon that has no use for it does not pay for them. */
const onFirstUse = (kind: CredentialKind, load: () => Promise<Connector>): Connector => {
  let loaded: Promise<Connector> | undefined
  return { kind, obtain: async (request) => (await (loaded ??= load())).obtain(request) }
}

/** The connector of every kind. */
export const createConnectors = (deps: {
  /** Users' own grants: more than a connector, and made before the others. */
  readonly oauthGrant: Connector
  readonly idJag: Pick<
    Parameters<typeof createIdJagConnector>[0],
    'identityToken' | 'identityProviders' | 'call' | 'connectUrl'
  >
  readonly requestToken: RequestToken
  readonly ask: AskProvider
  readonly call: CallProvider
  readonly egress: Egress
  readonly clients: ProviderClients
  readonly resolveSecret: ResolveSecret
  readonly minted: Pick<Parameters<typeof createMintedConnector>[0], 'issuer' | 'lifetime' | 'status'>
  readonly keys: SigningKeys
  readonly leases: Pick<Leases, 'obtain'>
  readonly tokensAt: Parameters<typeof createGitHubAppConnector>[0]['tokensAt']
  readonly backends: Pick<SecretBackends, 'dynamic' | 'leased' | 'tokens'>
  /** Reads secrets as they are handed out, and says how they rotate. */
  readonly readSecret: ReadSecret
  readonly termsOf: (secret: Parameters<ReadSecret>[0]) => RotationTerms | undefined
  readonly clock: Clock
  readonly random: Random
}): Connectors => ({
  oauth_grant: deps.oauthGrant,
  minted: createMintedConnector({ ...deps, ...deps.minted }),
  static: createStaticConnector('static', { ...deps, read: deps.readSecret }),
  api_key: createStaticConnector('api_key', { ...deps, read: deps.readSecret }),
  basic: createStaticConnector('basic', { ...deps, read: deps.readSecret }),
  client_credentials: createClientCredentialsConnector(deps),
  token_exchange: createTokenExchangeConnector(deps),
  entra_obo: createEntraOnBehalfOfConnector(deps),
  jwt_bearer: createJwtBearerConnector(deps),
  saml_bearer: onFirstUse('saml_bearer', async () =>
    (await import('./token-endpoint/saml-bearer.ts')).createSamlBearerConnector(deps),
  ),
  id_jag: createIdJagConnector({ ...deps, ...deps.idJag }),
  dynamic: createDynamicConnector({
    ...deps,
    backendOf: (id) => deps.backends.dynamic(id),
    engineOf: (id) => deps.backends.leased(id),
    tokensOf: (id) => deps.backends.tokens(id),
  }),
  mtls_certificate: createMtlsCertificateConnector({ ...deps, engineOf: (id) => deps.backends.leased(id) }),
  github_app: createGitHubAppConnector(deps),
  aws_sts: onFirstUse('aws_sts', async () => {
    const { createAwsStsConnector } = await import('./cloud/aws-sts.ts')
    return createAwsStsConnector({ ...deps, assertToCloud: cloudAssertionsOf(deps) })
  }),
  gcp_sts: createGcpStsConnector({ ...deps, assertToCloud: cloudAssertionsOf(deps) }),
  azure: createAzureConnector({ ...deps, assertToCloud: cloudAssertionsOf(deps) }),
})
