/** Backends of secrets at strict doubles of Vault and of AWS Secrets Manager. */
import { SecretsManagerClient } from '@aws-sdk/client-secrets-manager'
import type { VaultLogin } from '../../src/config/secret-backends.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { createEgress } from '../../src/foundation/outbound/fetch.ts'
import type { DeputyError } from '../../src/errors.ts'
import { silentLogger } from '../../src/foundation/telemetry/logger.ts'
import { createAwsSecrets } from '../../src/credentials/secret/aws/secrets-manager.ts'
import type { Clock } from '../../src/clock.ts'
import type { StoredTokens } from '../../src/credentials/secret/vault/stored-tokens.ts'
import { createVaultWire, type SendToVault } from '../../src/credentials/secret/vault/client.ts'
import { createVaultSecrets } from '../../src/credentials/secret/vault/kv.ts'
import { createVaultLogin, type OwnSecret } from '../../src/credentials/secret/vault/login.ts'
import { createVaultSession } from '../../src/credentials/secret/vault/session.ts'
import { startAwsDouble, type AwsDouble } from '../doubles/aws.ts'
import { startVaultDouble, type VaultDouble } from '../doubles/vault.ts'

export const connectToVault = (
  vault: VaultDouble,
  given: {
    login?: VaultLogin
    token?: string
    field?: string | null
    namespace?: string
    timeout?: number
    pause?: () => Promise<void>
    clock?: Clock
    own?: OwnSecret
    violated?: (error: DeputyError) => Promise<void>
    stored?: (send: SendToVault) => StoredTokens
  } = {},
) => {
  const egress = createEgress({ allowLoopback: true, allowPrivate: [], timeout: given.timeout ?? 1000 })
  let time = 0
  const login = given.login ?? { token: { env: 'T' } }
  const send = createVaultWire({
    id: 'vault',
    address: vault.url,
    namespace: given.namespace,
    egress,
    timeout: given.timeout ?? 1000,
    pause: given.pause ?? (() => Promise.resolve()),
  })
  const session = createVaultSession({
    id: 'vault',
    logIn: createVaultLogin({
      id: 'vault',
      login,
      send,
      ...(given.own === undefined ? {} : { own: given.own }),
      ...(given.violated === undefined ? {} : { violated: given.violated }),
      readSecret: () => Promise.resolve(new Secret(given.token ?? vault.rootToken)),
    }),
    isGiven: 'token' in login,
    send,
    monotonic: () => given.clock?.now() ?? time,
    clock: given.clock ?? { now: () => Date.now() + time },
    logger: silentLogger,
    stored: given.stored?.(send),
  })
  const backend = createVaultSecrets({
    id: 'vault',
    mount: 'secret',
    path: 'deputy/{tenant}/{secret}',
    field: given.field === undefined ? 'value' : given.field,
    session,
  })
  return {
    backend,
    session,
    send,
    forward(milliseconds: number) {
      time += milliseconds
      vault.forward(milliseconds)
    },
    async close() {
      await session.close()
      await egress.close()
    },
  }
}

/** A Vault with a backend of secrets on it. */
export const aVault = async () => {
  const vault = await startVaultDouble()
  const { backend, close } = connectToVault(vault)
  return {
    backend,
    vault,
    put: (tenant: string, name: string, value: string) => {
      vault.put(`deputy/${tenant}/${name}`, { value })
      return Promise.resolve()
    },
    remove: (tenant: string, name: string) => {
      vault.remove(`deputy/${tenant}/${name}`)
      return Promise.resolve()
    },
    patch: (tenant: string, name: string, fields: Readonly<Record<string, string>>) => {
      vault.patch(`deputy/${tenant}/${name}`, fields)
      return Promise.resolve()
    },
    keepOne: () => {
      vault.maxVersions = 1
      return Promise.resolve()
    },
    async close() {
      await close()
      await vault.close()
    },
  }
}

export const connectToAws = (
  aws: AwsDouble,
  given: { secretAccessKey?: string; endpoint?: string; path?: string; field?: string } = {},
) => {
  const client = new SecretsManagerClient({
    region: aws.region,
    endpoint: given.endpoint ?? aws.url,
    maxAttempts: 2,
    retryMode: 'standard',
    requestHandler: { requestTimeout: 500, connectionTimeout: 500 },
    credentials: { accessKeyId: aws.accessKeyId, secretAccessKey: given.secretAccessKey ?? aws.secretAccessKey },
  })
  return {
    backend: createAwsSecrets({
      id: 'aws',
      path: given.path ?? 'deputy/{tenant}/{secret}',
      client,
      ...(given.field === undefined ? {} : { field: given.field }),
    }),
    close: () => {
      client.destroy()
    },
  }
}

/** AWS Secrets Manager with a backend of secrets on it. */
export const anAws = async () => {
  const aws = await startAwsDouble()
  const { backend, close } = connectToAws(aws)
  return {
    backend,
    aws,
    put: (tenant: string, name: string, value: string) => {
      aws.put(`deputy/${tenant}/${name}`, value)
      return Promise.resolve()
    },
    remove: (tenant: string, name: string) => {
      aws.remove(`deputy/${tenant}/${name}`)
      return Promise.resolve()
    },
    rotateElsewhere: (tenant: string, name: string) => {
      aws.rotateByAws(`deputy/${tenant}/${name}`)
      return Promise.resolve()
    },
    async close() {
      close()
      await aws.close()
    },
  }
}

/** As `anAws`, where the secret is the field `password` of an object. */
export const anAwsField = async () => {
  const aws = await startAwsDouble()
  const { backend, close } = connectToAws(aws, { field: 'password' })
  return {
    backend,
    aws,
    put: (tenant: string, name: string, text: string) => {
      aws.put(`deputy/${tenant}/${name}`, text)
      return Promise.resolve()
    },
    text: (tenant: string, name: string) => Promise.resolve(aws.textOf(`deputy/${tenant}/${name}`)!),
    remove: (tenant: string, name: string) => {
      aws.remove(`deputy/${tenant}/${name}`)
      return Promise.resolve()
    },
    async close() {
      close()
      await aws.close()
    },
  }
}

/** A place for the field, as one for values that stand in it. */
export const withFieldValues = <Place extends { put(tenant: string, name: string, text: string): Promise<void> }>(
  place: Place,
): Place => ({
  ...place,
  put: (tenant: string, name: string, value: string) =>
    place.put(tenant, name, JSON.stringify({ username: 'app', password: value })),
})
