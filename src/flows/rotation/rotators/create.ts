import type { Clock, Random } from '#clock'
import type { OwnKeys, RotationPolicy, Settings } from '#config'
import { EMBEDDED_BACKEND, type ResolveSecret, type SecretBackends } from '#credentials/secret'
import { refuse } from '#errors'
import { readTlsFiles, type TlsFiles, type TlsMaterial } from '#foundation/files'
import type { Egress } from '#foundation/outbound'
import type { RotatedSecret } from '#foundation/store'
import { ownValue } from '#foundation/text'
import type { Rotator } from '../rotator.ts'
import { createCommandRotator } from './command.ts'
import { createDeputyKeysRotator, type RotatedKeys } from './deputy-keys.ts'
import { createOAuthClientRotator } from './oauth-client.ts'
import { createPostgresRotator } from './postgres.ts'
import { createRedisRotator } from './redis.ts'
import { createVaultStaticRoleRotator } from './vault-static-role.ts'
import { createWebhookRotator } from './webhook.ts'

/** How long a target may take to answer (ms). */
const TIMEOUT_MS = 5000

/** Makes the rotator of a policy for one of its secrets. */
export const createRotators = (deps: {
  readonly home: string
  readonly settings: () => Settings
  readonly resolveSecret: ResolveSecret
  readonly backends: Pick<SecretBackends, 'dynamic' | 'embedded'>
  readonly ownKeys: RotatedKeys
  readonly egress: Egress
  readonly clock: Clock
  readonly random: Random
}) => {
  const tlsOf =
    (tls: boolean | TlsFiles): (() => Promise<boolean | TlsMaterial>) =>
    async () =>
      typeof tls === 'boolean' ? tls : readTlsFiles(deps.home, tls)
  return ({ how }: RotationPolicy, secret: RotatedSecret): Rotator => {
    const { random } = deps
    switch (how.rotator) {
      case 'postgres':
        return createPostgresRotator(how, {
          admin: () => deps.resolveSecret(how.admin, secret.tenant),
          tls: tlsOf(how.tls),
          random,
          timeout: TIMEOUT_MS,
        })
      case 'redis':
        return createRedisRotator(how, {
          admin: () => deps.resolveSecret(how.admin, secret.tenant),
          tls: tlsOf(how.tls),
          random,
          timeout: TIMEOUT_MS,
        })
      case 'command': {
        const command = ownValue(deps.settings().rotation.commands, how.command)
        if (command === undefined)
          throw refuse('rotation_not_possible', { problem: `deputy.yaml allows no command ${how.command}` })
        return createCommandRotator(command, { secret, supportsDualSecrets: how.keeps_old, random })
      }
      case 'webhook':
        return createWebhookRotator(how, {
          secret,
          key: () => deps.resolveSecret(how.key, secret.tenant),
          egress: deps.egress,
          clock: deps.clock,
          random,
        })
      case 'oauth_client':
        return createOAuthClientRotator(how, {
          token: () => deps.resolveSecret({ secret: how.token.secret, backend: EMBEDDED_BACKEND }, secret.tenant),
          egress: deps.egress,
          async keepToken(token) {
            await deps.backends.embedded.write(secret.tenant, how.token.secret, token)
          },
        })
      case 'deputy_keys':
        return createDeputyKeysRotator(secret.secret as OwnKeys, deps.ownKeys)
      case 'vault_static_role': {
        const dynamic = deps.backends.dynamic(how.backend)
        if (dynamic === undefined)
          throw refuse('rotation_not_possible', { problem: `the backend ${how.backend} has no database engine` })
        return createVaultStaticRoleRotator({ ...how, dynamic })
      }
    }
  }
}
