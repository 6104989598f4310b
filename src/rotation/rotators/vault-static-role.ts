import type { Secret } from '../../crypto/secret.ts'
import type { DynamicSecrets } from '../../secret/backend.ts'
import type { AskingRotator } from '../rotator.ts'

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
    keepsOld: false,
    chosenThere: true,
    known,
    async check() {
      await known()
    },
    async apply(current) {
      const before = await known()
      // Changed before a kill, or by Vault's own schedule.
      if (before.reveal() !== current?.reveal()) return before
      await dynamic.rotateStatic(role)
      return known()
    },
    login: async (value) => ((await known()).reveal() === value.reveal() ? 'works' : 'refused'),
    retire: () => Promise.resolve(),
  }
}
