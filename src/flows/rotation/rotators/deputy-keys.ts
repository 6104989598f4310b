import { type OwnKeys, tenantOfDataKey } from '#config'
import { isSameSecret } from '#credentials/secret'
import { Secret } from '#foundation/crypto'
import type { AskingRotator } from '../rotator.ts'

/** What a rotator needs of the keys that are rotated. */
export interface RotatedKeys {
  /** The id of the key that is in force. */
  current(keys: OwnKeys): Promise<string>
  /** Whether the key of this id still opens what is sealed under it; of keys of which there is one at a time, whether it is in force. */
  isKnown(keys: OwnKeys, id: string): Promise<boolean>
  rotate(keys: OwnKeys): Promise<{ readonly id: string }>
  rewrap(): Promise<unknown>
  /** Seals anew what is under earlier data keys of the tenant, and forgets those. */
  endEarlier(tenant: string): Promise<unknown>
  canRotate(keys: OwnKeys): boolean
}

/** Deputy's own keys. What is kept as a secret, and compared, is the id of the key that is in force, never a key. */
export const createDeputyKeysRotator = (name: OwnKeys, keys: RotatedKeys): AskingRotator => {
  const known = async (): Promise<Secret> => new Secret(await keys.current(name))
  const tenant = tenantOfDataKey(name)
  return {
    // Of the others there is one in force at a time; a signature of the old one stays valid by itself, for as long as there is one.
    kind: 'deputy_keys',
    target: 'deputy',
    supportsDualSecrets: tenant !== undefined,
    generatedByTarget: true,
    known,
    check: () =>
      keys.canRotate(name)
        ? Promise.resolve()
        : Promise.reject(
            new Error(`a file with the ${name} does not exist; change it where it is, then run deputy key rotate`),
          ),
    async apply(earlier) {
      const before = await known()
      if (earlier.some((each) => isSameSecret(each, before))) return new Secret((await keys.rotate(name)).id)
      // Killed before: what was begun is finished.
      if (name === 'key-encryption-key') await keys.rewrap()
      return before
    },
    login: async (value) => ((await keys.isKnown(name, value.reveal())) ? 'works' : 'refused'),
    async retire(_old, current) {
      if (tenant === undefined) return
      // All but the key in force are ended: another one than that cannot be what stays.
      if (!isSameSecret(current, await known())) throw new Error(`the ${name} that is in force is another one`)
      await keys.endEarlier(tenant)
    },
  }
}
