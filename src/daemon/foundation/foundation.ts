import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { Clock, Random } from '#clock'
import { idSchema, type LocalReference, type Settings } from '#config'
import { bindGrants } from '#credentials/connector'
import { bindLeases, createEmbeddedSecrets, type EmbeddedSecrets } from '#credentials/secret'
import { DeputyError, refuse } from '#errors'
import {
  createFingerprint,
  type Fingerprint,
  type KeyEncryptionKey,
  Keyring,
  OWN_TENANT,
  Secret,
} from '#foundation/crypto'
import {
  assertPrivateFile,
  assertPrivateFolder,
  readTlsFiles,
  type TlsFiles,
  type TlsMaterial,
} from '#foundation/files'
import { SigningKeys } from '#foundation/keys'
import type { RedisOptions } from '#foundation/redis'
import { openPostgresStore, openSqliteStore, type PostgresOptions, type Store } from '#foundation/store'
import type { Logger } from '#foundation/telemetry'
import { openKeyEncryption } from './key-encryption.ts'

/** Where settings point: the folder that their paths are relative to, and the environment that they may name. */
export interface Surroundings {
  readonly home: string
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly clock: Clock
  readonly random: Random
}

/** What everything else stands on: the store, and the keys to what is in it. */
export interface KeysAndStore {
  readonly store: Store
  readonly envelope: Keyring
  readonly secrets: EmbeddedSecrets
  readonly signingKeys: SigningKeys
  readonly fingerprint: Fingerprint
  readonly cookieKey: Secret
  /** A secret of this installation, made when there is none, or none that is good any more. */
  own(name: string, make: () => Promise<Secret>, isGood?: (kept: Secret) => boolean): Promise<Secret>
  /** Reads the key-encryption key anew. */
  readKek(): Promise<KeyEncryptionKey>
  /** How the key service is, for admins; undefined where the key is here. */
  keyService(): Promise<string | undefined>
  /** Work on what nodes share, which one of them at a time may do. */
  alone<T>(work: () => Promise<T>): Promise<T>
  close(): Promise<void>
}

const variable = ({ environment }: Surroundings, name: string, what: string): string => {
  const text = environment[name]
  if (text === undefined || text === '')
    throw refuse('config_invalid', { problem: `the environment variable ${name} holds no ${what}` })
  return text
}

/** The password that settings point to. */
const passwordFrom = async (source: LocalReference | undefined, around: Surroundings): Promise<string | undefined> => {
  let password: string | undefined
  if (source !== undefined && 'file' in source) {
    const path = resolve(around.home, source.file)
    await assertPrivateFile(path)
    password = (await readFile(path, 'utf8')).replace(/\r?\n$/, '')
  } else if (source !== undefined) password = variable(around, source.env, 'password')
  return password
}

/** Reads the files of a connection: once, or again while it is in use. @throws DeputyError `config_invalid` */
export type ReadTls = (files: TlsFiles) => Promise<TlsMaterial>

const readOnce =
  ({ home }: Surroundings): ReadTls =>
  (files) =>
    readTlsFiles(home, files)

/** How a Redis, or its sentinels, are reached: the password and the certificates that settings point to. */
const redisAccess = async (
  {
    username,
    password,
    tls,
  }: { username?: string | undefined; password?: LocalReference | undefined; tls: boolean | TlsFiles },
  around: Surroundings,
  readTls: ReadTls,
): Promise<{ username: string | undefined; password: string | undefined; tls: boolean | TlsMaterial }> => ({
  username,
  password: await passwordFrom(password, around),
  tls: typeof tls === 'boolean' ? tls : await readTls(tls),
})

/** The name of this node. @throws DeputyError `config_invalid` */
export const nodeName = ({ node }: Settings, around: Surroundings): string => {
  if (typeof node === 'string') return node
  const name = variable(around, node.env, 'name of the node')
  if (!idSchema.safeParse(name).success)
    throw refuse('config_invalid', {
      problem: `the environment variable ${node.env} holds no name of a node: small letters, digits, ., _ and -`,
    })
  return name
}

/** How the settings say that Postgres is reached; undefined for the embedded store. @throws DeputyError `config_invalid` */
export const postgresOptions = async (
  { store }: Settings,
  around: Surroundings,
  readTls = readOnce(around),
): Promise<PostgresOptions | undefined> => {
  if (store === 'embedded') return undefined
  const { password, tls } = store.postgres
  return {
    ...store.postgres,
    password: await passwordFrom(password, around),
    tls: typeof tls === 'boolean' ? tls : await readTls(tls),
  }
}

/** How the settings say that Redis is reached; undefined where nodes share no cache. @throws DeputyError `config_invalid` */
export const redisOptions = async (
  { cache: { redis } }: Settings,
  around: Surroundings,
  readTls = readOnce(around),
): Promise<RedisOptions | undefined> =>
  redis === null
    ? undefined
    : {
        ...redis,
        ...(await redisAccess(redis, around, readTls)),
        sentinel: redis.sentinel === undefined ? undefined : await redisAccess(redis.sentinel, around, readTls),
      }

const openStore = async (settings: Settings, around: Surroundings & { readonly readTls: ReadTls }): Promise<Store> => {
  const postgres = await postgresOptions(settings, around, around.readTls)
  if (postgres === undefined) {
    const path = join(resolve(around.home, settings.state), 'deputy.db')
    return openSqliteStore({ path }).catch((error: unknown) => {
      if (!(error instanceof DeputyError && error.code === 'store_unavailable')) throw error
      throw refuse(
        'start_failed',
        {
          problem: `the embedded store ${path} cannot be opened: ${String(error.facts['problem'])}`,
          fix: 'Check that the user of the daemon owns the folder and may write there, and that the disk has room; put back a backup where the file is damaged.',
        },
        error,
      )
    })
  }
  return openPostgresStore({ ...postgres, node: nodeName(settings, around) })
}

/** A secret of this installation, sealed like every other. */
const ownSecret = async (
  secrets: EmbeddedSecrets,
  name: string,
  make: () => Promise<Secret>,
  isGood: (kept: Secret) => boolean = () => true,
): Promise<Secret> => {
  const known = await secrets.list(OWN_TENANT)
  const kept = known.some((secret) => secret.name === name) ? (await secrets.read(OWN_TENANT, name)).value : undefined
  if (kept !== undefined && isGood(kept)) return kept
  await secrets.write(OWN_TENANT, name, await make())
  return (await secrets.read(OWN_TENANT, name)).value
}

/** What users gave in one environment is not for another: a store belongs to the first that opened it. @throws DeputyError `config_invalid` */
const assertEnvironment = async (secrets: EmbeddedSecrets, { environment }: Settings): Promise<void> => {
  const found = await secrets.find(OWN_TENANT, 'environment', 'current')
  if (found === undefined) await secrets.write(OWN_TENANT, 'environment', new Secret(environment))
  else if (found.value.reveal() !== environment)
    throw refuse('config_invalid', {
      problem: `the store belongs to the environment ${found.value.reveal()}, and deputy.yaml says ${environment}: name that one, or another store`,
    })
}

/** How long after its last signature a token's key is published beyond the longest life of a token (ms). */
const PUBLISHED_LONGER = 3_600_000

/** Where `keys` was by default before it followed `state`. */
const EARLIER_KEYS = 'state/keys'

/**
 * The folder of the data keys: `keys`, or `keys` in the state folder.
 * @throws DeputyError `config_invalid` when an earlier version left the keys in `state/keys` of a home whose state is elsewhere
 */
export const keysFolder = (home: string, settings: Pick<Settings, 'keys' | 'state'>): string => {
  if (settings.keys !== undefined) return resolve(home, settings.keys)
  const folder = join(resolve(home, settings.state), 'keys')
  const earlier = join(home, EARLIER_KEYS)
  // Fresh keys in the new place would make all that the store holds unreadable.
  if (earlier !== folder && existsSync(earlier) && !existsSync(folder))
    throw refuse('config_invalid', {
      problem: `the data keys are in ${earlier}, where an earlier version kept them: write keys: ${EARLIER_KEYS} in deputy.yaml, or move the folder to ${folder}`,
    })
  return folder
}

/** Where a restore keeps what is not in its place yet; it is there until the restore is finished. */
export const UNFINISHED_RESTORE = '.restoring'

const assertRestored = (state: string): void => {
  if (!existsSync(join(state, UNFINISHED_RESTORE))) return
  throw refuse('start_failed', {
    problem: `a restore into ${state} was not finished`,
    fix: 'Run deputy restore again, with --replace.',
  })
}

/** @throws DeputyError `config_invalid`, `store_unavailable`; the store is closed again then */
export const openKeysAndStore = async (
  settings: Settings,
  around: Surroundings & { readonly logger: Logger; readonly readTls: ReadTls },
): Promise<KeysAndStore> => {
  const { clock, random } = around
  const folder = keysFolder(around.home, settings)
  await assertPrivateFolder(resolve(around.home, settings.state))
  assertRestored(resolve(around.home, settings.state))
  const kek = await openKeyEncryption(settings.kek, settings.kek_earlier, {
    ...around,
    monotonic: () => performance.now(),
  })
  const opened: { store?: Store } = {}
  const hasRecords = async (tenant: string): Promise<boolean> => (await opened.store?.sealed.has(tenant)) === true
  const envelope = await Keyring.open({ folder, kek: await kek.read(), random, hasRecords })
  const store = await openStore(settings, around).catch(async (error: unknown) => {
    await kek.close()
    throw error
  })
  opened.store = store
  const close = async (): Promise<void> => {
    await store.close()
    await kek.close()
  }
  const alone: KeysAndStore['alone'] = (work) =>
    store.cluster === undefined ? work() : store.cluster.exclusively('deputy ground', work)
  try {
    const secrets = createEmbeddedSecrets({ store: store.secrets, envelope, clock })
    // 32 random bytes in base64.
    const newKey = (): Promise<Secret> => Promise.resolve(new Secret(Buffer.from(random.bytes(32)).toString('base64')))
    return await alone(async () => {
      await assertEnvironment(secrets, settings)
      const { logger } = around
      await bindGrants({ folder, grants: store.grants, envelope, logger })
      await bindLeases({ folder, leases: store.leases, envelope, logger })
      return {
        store,
        envelope,
        secrets,
        alone,
        close,
        own: (name, make, isGood) => alone(() => ownSecret(secrets, name, make, isGood)),
        readKek: () => kek.read(),
        keyService: () => kek.status(),
        signingKeys: await SigningKeys.open({
          store: store.signingKeys,
          envelope,
          clock,
          lifetime: settings.tokens.signing_key_lifetime,
          longestToken: settings.tokens.lifetime + PUBLISHED_LONGER,
        }),
        fingerprint: createFingerprint(await ownSecret(secrets, 'fingerprint-key', newKey)),
        cookieKey: await ownSecret(secrets, 'cookie-key', newKey),
      }
    })
  } catch (error) {
    await close()
    if (!(error instanceof DeputyError && error.code === 'data_key_unavailable')) throw error
    // Deputy's own key: the folder is not mounted, or another one, or wrapped by a key that the settings do not name.
    const { problem, details } = error.facts
    throw refuse(
      'start_failed',
      { problem: `its own data key in ${folder} cannot be opened: ${String(problem)}`, fix: String(details) },
      error,
    )
  }
}
