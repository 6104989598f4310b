import type { DynamicSecrets } from '#credentials/secret'
import type { Secret } from '#foundation/crypto'
import type { AskingRotator } from '../rotator.ts'
import { readLogin } from './login-secret.ts'

/** A copy may be written with other white space or more members: what counts is who logs in, and with which password. */
const isSameLogin = (one: Secret, other: Secret): boolean => {
  const [left, right] = [readLogin(one), readLogin(other)]
  return left.username === right.username && left.password === right.password
}

/**
 * A static role of Vault's database engine: Vault changes the password and knows the one that is right
 * (https://developer.hashicorp.com/vault/api-docs/secret/databases#rotate-static-role-credentials). A copy of the login is kept
 * as a secret, and what Vault says is what the target says.
 */
export const createVaultStaticRoleRotator = (options: {
  backend: string
  role: string
  dynamic: DynamicSecrets
}): AskingRotator => {
  const { role, dynamic } = options
  const known = async (): Promise<Secret> => (await dynamic.readStatic(role)).value
  return {
    kind: 'vault_static_role',
    target: `${options.backend}/${role}`,
    supportsDualSecrets: false,
    generatedByTarget: true,
    known,
    async check() {
      await known()
    },
    async apply(earlier) {
      const before = await known()
      // Changed before a kill.
      if (!earlier.some((each) => isSameLogin(each, before))) return before
      await dynamic.rotateStatic(role)
      return known()
    },
    login: async (value) => (isSameLogin(await known(), value) ? 'works' : 'refused'),
    retire: () => Promise.resolve(),
  }
}
