import { covers, dataKeyOf, OWN_BACKEND, type OwnKeys, type RotationPolicy, servesTenant } from '#config'
import type { CurrentSnapshot } from '#config'
import { EMBEDDED_BACKEND, type SecretBackends } from '#credentials/secret'
import { OWN_TENANT, Secret } from '#foundation/crypto'
import type { RotatedSecret } from '#foundation/store'
import type { RotatedKeys } from './rotators/deputy-keys.ts'

export interface CoveredSecretsOptions {
  readonly snapshot: CurrentSnapshot
  readonly backends: Pick<SecretBackends, 'embedded'>
  readonly ownKeys: Pick<RotatedKeys, 'current'> & { tenants(): Promise<string[]> }
}

/** The secrets that a policy covers, as their backend has them now. */
export const createCoveredSecrets = (options: CoveredSecretsOptions) => {
  const { snapshot } = options
  return async (policy: RotationPolicy): Promise<RotatedSecret[]> => {
    const { backend, tenants, name } = policy.secrets
    if (backend === OWN_BACKEND) return coveredKeys(options, policy)
    if (backend === EMBEDDED_BACKEND) return coveredEmbedded(options, policy)
    // Other backends are not asked for their secrets: the policy names one secret, which its first rotation makes if need be.
    return [...snapshot().tenants.keys()]
      .filter((tenant) => servesTenant(tenants, tenant))
      .map((tenant) => ({ tenant, backend, secret: name }))
  }
}

const coveredKeys = async (options: CoveredSecretsOptions, policy: RotationPolicy): Promise<RotatedSecret[]> => {
  const names: OwnKeys[] = [
    'signing-keys',
    'key-encryption-key',
    ...(await options.ownKeys.tenants()).map((tenant) => dataKeyOf(tenant)),
  ]
  return Promise.all(
    names
      .filter((secret) => covers(policy, { tenant: OWN_TENANT, backend: OWN_BACKEND, secret }))
      .map((secret) => ownKey(options, secret)),
  )
}

/** One of Deputy's own keys: the secret that rotates is the id of the current key, which is stored on first sight. */
const ownKey = async ({ backends, ownKeys }: CoveredSecretsOptions, name: OwnKeys): Promise<RotatedSecret> => {
  if ((await backends.embedded.find(OWN_TENANT, name, 'current')) === undefined)
    await backends.embedded.write(OWN_TENANT, name, new Secret(await ownKeys.current(name)))
  return { tenant: OWN_TENANT, backend: OWN_BACKEND, secret: name }
}

const coveredEmbedded = async (
  { snapshot, backends }: CoveredSecretsOptions,
  policy: RotationPolicy,
): Promise<RotatedSecret[]> =>
  (await backends.embedded.list())
    .filter(({ stage, tenant }) => stage === 'current' && snapshot().tenants.has(tenant))
    .map(({ tenant, name }) => ({ tenant, backend: EMBEDDED_BACKEND, secret: name }))
    .filter((secret) => covers(policy, secret))
