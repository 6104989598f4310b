import { isSameSecret, type SecretVersion, type StagedSecrets } from '#credentials/secret'
import type { RotatedSecret } from '#foundation/store'
import type { RotationValues } from './values.ts'
import { NeedsPerson } from './needs-person.ts'

/** Which value the backend hands out now, seen from a rotation; `foreign`: neither the one that it replaces nor its own. */
export type HandedOut =
  | { readonly is: 'new' | 'old' | 'foreign'; readonly version: SecretVersion }
  | { readonly is: 'none'; readonly version: undefined }

export const handedOut = async (
  backend: Pick<StagedSecrets, 'find'>,
  { tenant, secret }: RotatedSecret,
  { old, next }: RotationValues,
): Promise<HandedOut> => {
  const version = await backend.find(tenant, secret, 'current')
  if (version === undefined) return { is: 'none', version }
  if (next !== undefined && isSameSecret(version.value, next)) return { is: 'new', version }
  return { is: old !== undefined && isSameSecret(version.value, old.value) ? 'old' : 'foreign', version }
}

const CHANGED = 'another party has changed the secret during the rotation'
export const FOREIGN = `${CHANGED}: its current value is neither the one that was replaced nor the new one; nothing was ended or overwritten`
export const REMOVED = `${CHANGED}: the backend no longer has a current version of it; nothing was ended`
export const RESTORED = `${CHANGED}: its current value is again the one that was replaced; that one was not ended`

/** Before the promotion: as at the plan, or promoted already. @throws NeedsPerson */
export const expectUnchanged = (now: HandedOut, { old }: RotationValues): HandedOut => {
  if (now.is === 'foreign') throw new NeedsPerson(FOREIGN)
  if (now.is === 'none' && old !== undefined) throw new NeedsPerson(REMOVED)
  return now
}

/** After the promotion. @throws NeedsPerson */
export const expectNew = (now: HandedOut): SecretVersion => {
  if (now.is === 'new') return now.version
  throw new NeedsPerson(now.is === 'foreign' ? FOREIGN : now.is === 'none' ? REMOVED : RESTORED)
}
