import { refuse } from '#errors'
import type { SecretVersion, StagedSecrets } from './backend.ts'

/** What every backend with stages says in the same way, out of how it finds a version. */
export const stagesOf = (find: StagedSecrets['find']) => {
  const conflict = (tenant: string, name: string): Error => refuse('conflict', { what: `secret ${name} of ${tenant}` })
  return {
    conflict,
    async read(tenant: string, name: string): Promise<SecretVersion> {
      const found = await find(tenant, name, 'current')
      if (found === undefined) throw refuse('secret_missing', { tenant, secret: name })
      return found
    },
    /** The version that is pending under this token. @throws DeputyError `conflict` when another token's is */
    async staged(tenant: string, name: string, token: string): Promise<SecretVersion | undefined> {
      const pending = await find(tenant, name, 'pending')
      if (pending !== undefined && pending.token !== token) throw conflict(tenant, name)
      return pending
    },
  }
}
