import { Secret } from '../../crypto/secret.ts'
import type { AskingRotator } from '../rotator.ts'

/** What a rotator needs of the keys that are rotated. */
export interface RotatedKeys<Name extends string> {
  current(keys: Name): Promise<string>
  rotate(keys: Name): Promise<{ readonly id: string }>
  rewrap(): Promise<unknown>
  canRotate(keys: Name): boolean
}

/** Deputy's own keys. What is kept as a secret, and compared, is the id of the key that is in force, never a key. */
export const createDeputyKeysRotator = <Name extends string>(name: Name, keys: RotatedKeys<Name>): AskingRotator => {
  const known = async (): Promise<Secret> => new Secret(await keys.current(name))
  return {
    // There is one in force at a time; what the old one has signed goes on being accepted by itself, for as long as there is any of it.
    kind: 'deputy_keys', target: 'deputy', keepsOld: false, chosenThere: true, known,
    check: () => keys.canRotate(name) ? Promise.resolve() : Promise.reject(new Error(`a file with the ${name} does not exist; change it where it is, then run deputy key rotate`)),
    async apply(current) {
      const before = await known()
      if (before.reveal() === current?.reveal()) return new Secret((await keys.rotate(name)).id)
      // Killed before: what was begun is finished.
      if (name === 'key-encryption-key') await keys.rewrap()
      return before
    },
    login: async (value) => (await known()).reveal() === value.reveal() ? 'works' : 'refused',
    retire: () => Promise.resolve(),
  }
}
