import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { DeputyError } from '#errors'
import type { Envelope, RecordName } from './envelope.ts'

/**
 * Does a change of what ciphertexts are bound to, once for an installation: from then on none of the earlier form is believed.
 * @param done.folder where the data keys are, and where who can write the store can remove no mark
 * @param done.mark the name of the file that says that it was done
 */
export const once = async (
  done: { readonly folder: string; readonly mark: string; readonly text: string },
  work: () => Promise<void>,
): Promise<void> => {
  const path = join(done.folder, done.mark)
  if (existsSync(path)) return
  await work()
  await writeFile(path, `${done.text}\n`, { mode: 0o600 })
}

const isUnreadable = (error: unknown): boolean => error instanceof DeputyError && error.code === 'secret_unreadable'

/** The ciphertext bound to another name: undefined where it is already, `unreadable` where it is bound to neither. */
export const sealedAnew = async (
  envelope: Envelope,
  sealed: Uint8Array,
  { from, to }: { readonly from: RecordName; readonly to: RecordName },
): Promise<Uint8Array | 'unreadable' | undefined> => {
  try {
    await envelope.open(to, sealed)
    return undefined
  } catch (error) {
    if (!isUnreadable(error)) throw error
  }
  try {
    return await envelope.seal(to, await envelope.open(from, sealed))
  } catch (error) {
    if (!isUnreadable(error)) throw error
    return 'unreadable'
  }
}
