/**
 * What the files say: one zod schema for each kind of document, and the checks that need several documents at once.
 * Every room reads the parsed types. This room reads no other room but openapi, text and files.
 * Flow: `loadOnThread` parses and checks the YAML files on a worker thread and gives a `Snapshot`. The daemon swaps
 * snapshots as a whole, so that a request sees one configuration from its start to its end.
 */
export { agentScopeWarnings, scopesAt } from './sign-in-scopes.ts'
export { basicScopeWarnings } from './basic-scopes.ts'
export { sentinelWarnings } from './sentinel-tls.ts'
export { openIssuerClaim, openIssuerWarnings } from './open-issuers.ts'
export { sharedAudienceWarnings } from './shared-audiences.ts'
export { sharedSignInWarnings } from './shared-sign-in.ts'
export type { Agent, AgentToken } from './agent.ts'
export { type Client, REGISTERED_PREFIX } from './client.ts'
export { callbackUrlOf, documentOf, pagesUrlOf } from './client-document.ts'
export { auditSinkWarnings } from './audit-sink-warnings.ts'
export type { AuditSinkSettings, HttpSinkSettings, SegmentSinkSettings, SyslogSinkSettings } from './audit-sinks.ts'
export { type ClientSettings, isNamedHost } from './client-settings.ts'
export { ofTenant, sessionPolicyText } from './cloud-credentials.ts'
export { cloudTenantWarnings } from './cloud-tenants.ts'
export {
  type AssertionSubject,
  clientFor,
  clientsOf,
  type CredentialKind,
  credentialKindSchema,
  type Downstream,
  type DownstreamOf,
  downstreamSchema,
  keeps,
  type KeptDownstream,
  type OAuthClient,
  type ProvidedDownstream,
  wantsBound,
} from './downstream.ts'
export { engineQuestionOf } from './engine-question.ts'
export { type ExecMapping, execSchema, type ExecValue } from './exec.ts'
export { differingNodes, type Fingerprints, fingerprintsOf } from './fingerprints.ts'
export { readTextFiles } from './folder.ts'
export { CREDENTIAL, type Inject, type InjectionWay } from './inject.ts'
export { type KnownServer, knownServerSchema, readKnownServers } from './known-server.ts'
export type { KeyEncryptionSettings } from './key-encryption.ts'
export { loadConfiguration, loadLocations, readProviders, rotationPolicies } from './load.ts'
export { checkPrivateFiles, type PrivateFile } from './private-files.ts'
export { formatProblem, type Problem } from './problem.ts'
export {
  answersSchema,
  fillIn,
  neededVariables,
  type Provider,
  providerFor,
  providerSchema,
  type ProviderSignIn,
  revocationEnds,
  variablesSchema,
} from './provider.ts'
export { loadAtStart, loadOnThread } from './reader.ts'
export {
  covers,
  dataKeyOf,
  endsEarly,
  OWN_BACKEND,
  type OwnKeys,
  type RotationPolicy,
  type RotationWindow,
  tenantOfDataKey,
} from './rotation-policy.ts'
export type { RotatorSettingsOf } from './rotators.ts'
export { leasedBy, pathFor, type SecretBackendSettings, type VaultAccess, type VaultLogin } from './secret-backends.ts'
export { type Attestation, OTHER_TOOLS, registryNameSchema, serverSchema, type Server } from './server.ts'
export { type Rate, type Settings, SETTINGS_FILE, settingsSchema } from './settings.ts'
export type { CurrentSnapshot, Snapshot } from './snapshot.ts'
export { socketFolderProblems } from './socket-folders.ts'
export { examples, settingsTemplate } from './template.ts'
export { LOOPBACK_HOSTS, redirectUriProblem } from './redirect-uri.ts'
export { isMemberOf, signInIssuer, signInProvider, type SignInSettings, userIssuerOf } from './sign-in.ts'
export { type SignalTransmitter, takesAssertions, type Tenant, tenantSchema, type TrustedIssuer } from './tenant.ts'
export {
  durationSchema,
  idSchema,
  type LocalReference,
  MAX_LEASE_MS,
  resourceSchema,
  scopeSchema,
  type SecretReference,
  servesTenant,
  urlSchema,
} from './values.ts'
export { parseYamlFile } from './yaml-file.ts'
export { parseStoredHash } from './client-secret-hash.ts'
export { signInAtWarnings } from './checks/sign-in-at.ts'
export { API_FOLDER, documentDigest, targetOf } from './compile-apis.ts'
export { type Api, apiSchema, type ApiToolEntry, type CompiledApi, toolNameSchema } from './api.ts'
export { type HostedTool, type HostedTools, isHosted } from './hosted-tools.ts'
