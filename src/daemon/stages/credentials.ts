/** The fourth stage: what obtains a credential after policy has decided. */
import { pagesUrlOf } from '#config'
import { createConfigurationDigest, createSharedCredentials } from '#credentials/cache'
import {
  createConnectors,
  createOAuthGrantConnector,
  createProviderRequests,
  createStatusIndex,
  createTokenRequests,
} from '#credentials/connector'
import {
  createClientAssertions,
  createIdentityProviders,
  createProviderClients,
  createSignInClients,
  createUserinfo,
} from '#credentials/provider'
import { createSecretVersions } from '#credentials/secret'
import { createConnectLinks, createIdentityTokens } from '#flows/connect'
import { createMintedLife, createObtain, createRecall, createStatusLists } from '#flows/exchange'
import { createProofs } from '#foundation/outbound'
import { voidsGrant } from '#identity/validity'
import type { DaemonContext } from '../context.ts'
import type { Foundation } from './foundation.ts'
import type { Identity } from './identity.ts'
import type { Secrets } from './secrets.ts'

/** How long a status list takes tokens (ms). */
const STATUS_PERIOD_MS = 600_000

/** What speaks with OAuth services, and users' grants at them. */
const openProviders = (context: DaemonContext, foundation: Foundation, { call, resolveSecret }: Secrets) => {
  const { settings, snapshot, clock, random, logger, newId, atEnd } = context
  const { store, envelope, egress, fingerprint, revocationIndex, signingKeys, membership, audit, incarnation } =
    foundation
  const pagesUrl = pagesUrlOf(settings)
  const clientOptions = {
    snapshot,
    egress,
    proofs: createProofs({ clock, random }),
    assertClient: createClientAssertions({ keys: signingKeys, clock, random }),
    resolveSecret,
  }
  const clients = createProviderClients(clientOptions)
  const links = createConnectLinks({
    snapshot,
    store: store.attempts,
    envelope,
    clock,
    random,
    baseUrl: () => pagesUrl,
    newId,
  })
  const oauthGrant = createOAuthGrantConnector({
    snapshot,
    grants: store.grants,
    consents: store.consents,
    upstreamRevocations: store.upstreamRevocations,
    envelope,
    clients,
    call,
    clock,
    random,
    connectUrl: links.connectUrl,
    isVoid: voidsGrant(revocationIndex),
    catchUp: () => membership.catchUp(),
    audit,
    telemetry: context.observed.telemetry,
    logger,
    owner: incarnation,
    shared: store.cluster !== undefined,
    timeout: settings.network.timeout,
  })
  atEnd(() => oauthGrant.close())
  return {
    pagesUrl,
    clients,
    links,
    oauthGrant,
    signInClients: createSignInClients(clientOptions),
    readUserinfo: createUserinfo(egress),
    identityProviders: createIdentityProviders({ snapshot, egress, resolveSecret }),
    identityTokens: createIdentityTokens({
      snapshot,
      store: store.identityTokens,
      envelope,
      fingerprint,
      revocationIndex,
      clock,
    }),
  }
}
type Providers = ReturnType<typeof openProviders>

const publishStatus = ({ snapshot, clock }: DaemonContext, foundation: Foundation, { pagesUrl }: Providers) => {
  const { store, signingKeys, revocationIndex, membership } = foundation
  return createStatusLists({
    snapshot,
    audit: store.audit,
    keys: signingKeys,
    revocationIndex,
    membership,
    baseUrl: () => `${pagesUrl}/status`,
    period: STATUS_PERIOD_MS,
    longestToken: () => snapshot().settings.tokens.lifetime,
    clock,
  })
}

const openConnectors = (context: DaemonContext, foundation: Foundation, secrets: Secrets, parts: ConnectorParts) => {
  const { settings, snapshot, clock, random } = context
  const { store, egress, signingKeys } = foundation
  const { call, rotation } = secrets
  const { clients, identityTokens, identityProviders, links, oauthGrant, issuer, statusLists } = parts
  const status = settings.tokens.status_list
    ? {
        next: createStatusIndex({ node: store.audit.node, period: STATUS_PERIOD_MS, clock, random }),
        uriOf: statusLists.uriOf,
      }
    : undefined
  return createConnectors({
    ...secrets,
    idJag: { identityToken: identityTokens.find, identityProviders, call, connectUrl: links.connectUrl },
    oauthGrant,
    clients,
    requestToken: createTokenRequests({ clients, call, clock }),
    ask: createProviderRequests({ egress, call, clock }),
    egress,
    keys: signingKeys,
    readSecret: rotation.read,
    termsOf: (secret) => rotation.termsOf(secret),
    clock,
    random,
    minted: { issuer, lifetime: () => snapshot().settings.tokens.lifetime, status },
  })
}
type ConnectorParts = Providers & Pick<Identity, 'issuer'> & { readonly statusLists: ReturnType<typeof publishStatus> }

export const createCredentials = (
  context: DaemonContext,
  foundation: Foundation,
  secrets: Secrets,
  { issuer }: Identity,
) => {
  const { snapshot, clock, logger } = context
  const { store, envelope, fingerprint, revocationIndex, cache, isVoid, bytes } = foundation
  const { leases, rotation, backends } = secrets
  const providers = openProviders(context, foundation, secrets)
  const statusLists = publishStatus(context, foundation, providers)
  const generationOf = createConfigurationDigest(snapshot)
  const obtain = createObtain({
    shared:
      bytes === undefined
        ? undefined
        : createSharedCredentials({ bytes, envelope, fingerprint, generationOf, clock, logger }),
    cache,
    clock,
    logger,
    isVoid,
    versionsOf: createSecretVersions({
      embedded: (tenant, name) => store.secrets.find(tenant, name, 'current'),
      writes: store.secrets.writes,
      read: (secret) => rotation.read(secret),
    }),
    forgetSecret: (secret) => {
      backends.forget(secret)
    },
    lastRevocation: () => revocationIndex.number,
    hasGrant: async (grant) => (await store.grants.get(grant)) !== undefined,
    endLease: async (lease) => {
      await leases.end([{ id: lease }])
    },
    connectors: openConnectors(context, foundation, secrets, { ...providers, issuer, statusLists }),
  })
  const recall = createRecall({ cache, isVoid })
  return { ...providers, statusLists, obtain, recall, isLive: createMintedLife({ snapshot, revocationIndex }) }
}
export type Credentials = ReturnType<typeof createCredentials>
