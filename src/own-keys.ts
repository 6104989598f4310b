import { resolve } from 'node:path'
import type { Random } from './clock.ts'
import type { Settings } from './config/settings.ts'
import { dropEarlierKeys, prependKey } from './crypto/key-encryption-key.ts'
import { refuse } from './errors.ts'
import type { Ground } from './ground.ts'

/** Deputy's own keys, as policies and commands name them. */
export type OwnKeys = 'signing-keys' | 'key-encryption-key'

/**
 * Changes Deputy's own keys. A signing key that is over stays published until its last token has expired; a new
 * key-encryption key wraps every data key anew, and both are in the file until that is done.
 */
export const createOwnKeys = (options: { ground: Pick<Ground, 'envelope' | 'signingKeys' | 'readKek' | 'alone'>; settings: Pick<Settings, 'kek'>; home: string; random: Random }) => {
  const { ground: { envelope, signingKeys, readKek, alone }, settings: { kek }, home, random } = options
  const path = 'file' in kek ? resolve(home, kek.file) : undefined
  /** Wraps every data key by the key that is in force, and forgets those before it. */
  const rewrap = () => alone(async () => {
    const now = await readKek()
    const rewrapped = await envelope.rewrap(now)
    if (path !== undefined) await dropEarlierKeys(path)
    return { id: now.id, rewrapped }
  })
  return {
    /** The id of the key that is in force. */
    current: async (keys: OwnKeys): Promise<string> => keys === 'signing-keys' ? signingKeys.kid('token') : (await readKek()).id,
    rewrap,
    /** @returns the id of the new one, and how many data keys it wraps now. @throws DeputyError `rotation_not_possible` for a key-encryption key that is not ours to make */
    async rotate(keys: OwnKeys): Promise<{ id: string; rewrapped: number }> {
      if (keys === 'signing-keys') return alone(async () => { await signingKeys.refresh(); await signingKeys.rotateWhenDue(true); return { id: signingKeys.kid('token'), rewrapped: 0 } })
      if (path === undefined) throw refuse('rotation_not_possible', { problem: 'the key-encryption key is in no file; change it where it is, then wrap the data keys anew with `deputy key rotate`' })
      await prependKey(path, random)
      return rewrap()
    },
    /** Whether there is a file in which a new one can be put. */
    canRotate: (keys: OwnKeys): boolean => keys === 'signing-keys' || path !== undefined,
  }
}
export type OwnKeyRoom = ReturnType<typeof createOwnKeys>
