import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { Clock } from '#clock'
import { leasedBy, type SecretBackendSettings, type VaultAccess } from '#config'
import { type DeputyError, refuse } from '#errors'
import { OWN_TENANT } from '#foundation/crypto'
import { createEgress, NAMED_BY_SETTINGS } from '#foundation/outbound'
import type { RotatedSecret } from '#foundation/store'
import type { Logger } from '#foundation/telemetry'
import type { DynamicSecrets, IssuedTokens, LeasedSecrets, SecretVersion, StagedSecrets } from './backend.ts'
import { EMBEDDED_BACKEND, type EmbeddedSecrets } from './embedded.ts'
import { SecretCache } from './secret-cache.ts'
import { readLocalSecret } from './reference.ts'
import { createVaultWire } from './vault/client.ts'
import { createVaultAws, createVaultAzure, createVaultGcp } from './vault/cloud.ts'
import { createVaultDatabase } from './vault/database.ts'
import { createVaultPki } from './vault/pki.ts'
import { createVaultSecrets } from './vault/kv.ts'
import { createStoredTokens, type TokenStorage } from './vault/stored-tokens.ts'
import { createVaultLogin, type OwnSecret } from './vault/login.ts'
import { createVaultSession, type VaultSession } from './vault/session.ts'

/** A reading that has not ended after so many times its timeout is not shared any more. */
const READINGS_TIME = 4

export interface VaultSurroundings {
  readonly home: string
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly clock: Clock
  readonly monotonic: () => number
  readonly logger: Logger
  /** Of this release, for the logs of others. */
  readonly version?: string
  /** The id of the request that is being answered. */
  readonly correlationId?: () => string | undefined
  /** Where an unwrapped secret id outlives the process; absent where the store is not open yet. */
  readonly own?: OwnSecret
  readonly violated?: (error: DeputyError) => Promise<void>
  /** Where tokens outlive the process; absent where no leases are under them. */
  readonly tokenStorage?: TokenStorage
}

/** A session at the Vault that settings describe, over a way out of its own. @throws DeputyError `config_invalid` */
export const openVault = async (id: string, access: VaultAccess, around: VaultSurroundings): Promise<VaultSession> => {
  let ca
  if (access.ca !== undefined) {
    try {
      ca = await readFile(resolve(around.home, access.ca), 'utf8')
    } catch (error) {
      throw refuse('config_invalid', { problem: `the certificates of ${id} in ${access.ca} cannot be read` }, error)
    }
  }
  const egress = createEgress({
    ...NAMED_BY_SETTINGS,
    timeout: access.timeout,
    ...(ca === undefined ? {} : { ca }),
  })
  const { address, namespace, login, timeout } = access
  const { clock, logger, monotonic, tokenStorage } = around
  const send = createVaultWire({
    id,
    address,
    namespace,
    timeout,
    egress,
    userAgent: around.version === undefined ? undefined : `deputy/${around.version}`,
    correlationId: around.correlationId,
  })
  const place = JSON.stringify([address, namespace ?? ''])
  const session = createVaultSession({
    id,
    logIn: createVaultLogin({
      id,
      login,
      send,
      readSecret: (reference) => readLocalSecret(reference, around, OWN_TENANT),
      ...(around.own === undefined ? {} : { own: around.own }),
      ...(around.violated === undefined ? {} : { violated: around.violated }),
    }),
    isGiven: 'token' in login,
    send,
    monotonic,
    clock,
    logger,
    stored:
      tokenStorage === undefined ? undefined : createStoredTokens({ id, place, tokenStorage, send, clock, logger }),
  })
  return {
    ask: (request) => session.ask(request),
    askForLease: (request) => session.askForLease(request),
    endOf: (parent) => session.endOf(parent),
    async close() {
      await session.close()
      await egress.close()
    },
  }
}

/** Every backend of secrets, by the id under which files name it. */
export interface SecretBackends {
  readonly embedded: EmbeddedSecrets
  /** The backend itself, without a cache: rotations work with it. */
  get(id: string): StagedSecrets | undefined
  /** What makes credentials on demand. */
  dynamic(id: string): DynamicSecrets | undefined
  /** What is under a lease, by `leasedBy` a backend and its engine. */
  leased(id: string): LeasedSecrets | undefined
  /** What issues tokens that have none, named alike. */
  tokens(id: string): IssuedTokens | undefined
  /** @param grace see `SecretCache.read`. @throws DeputyError of the category secret */
  read(secret: RotatedSecret, grace?: number): Promise<SecretVersion>
  /** Another version has become current. */
  forget(secret: RotatedSecret): void
  /** How each of them is, for people. */
  status(): Record<string, string>
  close(): Promise<void>
}

/** @throws DeputyError `config_invalid` */
export const createSecretBackends = async (
  settings: Readonly<Record<string, SecretBackendSettings>>,
  around: VaultSurroundings & { readonly embedded: EmbeddedSecrets },
): Promise<SecretBackends> => {
  const { embedded } = around
  const known = new Map<string, StagedSecrets>([[EMBEDDED_BACKEND, embedded]])
  const caches = new Map<string, SecretCache>()
  const makers = new Map<string, DynamicSecrets>()
  const engines = new Map<string, LeasedSecrets>()
  const issuers = new Map<string, IssuedTokens>()
  const closers: (() => Promise<void> | void)[] = []
  for (const [id, backend] of Object.entries(settings)) {
    if (backend.kind === 'vault') {
      const session = await openVault(id, backend, around)
      closers.push(() => session.close())
      const common = { id, session, clock: around.clock, making: backend.making_timeout }
      makers.set(id, createVaultDatabase({ ...common, mount: backend.database }))
      const gcp = createVaultGcp({ ...common, mount: backend.gcp })
      issuers.set(leasedBy(id, 'gcp'), gcp)
      engines.set(leasedBy(id, 'gcp'), gcp)
      engines.set(leasedBy(id, 'aws'), createVaultAws({ ...common, mount: backend.aws }))
      engines.set(leasedBy(id, 'azure'), createVaultAzure({ ...common, mount: backend.azure }))
      engines.set(leasedBy(id, 'pki'), createVaultPki({ ...common, mount: backend.pki }))
      known.set(id, createVaultSecrets({ id, ...backend, session }))
    } else {
      // Loaded where it is configured: no other daemon should pay for the SDK.
      const { createAwsSecrets, createSecretsManagerClient } = await import('./aws/secrets-manager.ts')
      const client = createSecretsManagerClient(backend)
      closers.push(() => {
        client.destroy()
      })
      known.set(id, createAwsSecrets({ id, path: backend.path, field: backend.field, client }))
    }
    const { fresh, stale, timeout } = backend
    const { clock, monotonic, logger } = around
    const limit = timeout * READINGS_TIME
    caches.set(id, new SecretCache(known.get(id)!, { id, fresh, stale, limit, clock, monotonic, logger }))
  }
  return {
    embedded,
    get: (id) => known.get(id),
    dynamic: (id) => makers.get(id),
    leased: (id) => makers.get(id) ?? engines.get(id),
    tokens: (id) => issuers.get(id),
    async read({ tenant, backend, secret }, grace) {
      if (backend === EMBEDDED_BACKEND) return embedded.read(tenant, secret)
      const found = caches.get(backend)
      // Settings of backends are read at start, and other files while the daemon runs.
      if (found === undefined)
        throw refuse('secret_backend_unavailable', {
          backend,
          problem: 'deputy.yaml did not name it when the daemon was started',
        })
      return found.read(tenant, secret, grace)
    },
    forget({ tenant, backend, secret }) {
      caches.get(backend)?.forget(tenant, secret)
    },
    status: () => Object.fromEntries([...caches].map(([id, each]) => [`secrets ${id}`, each.problem() ?? 'ok'])),
    async close() {
      for (const close of closers) await close()
    },
  }
}
