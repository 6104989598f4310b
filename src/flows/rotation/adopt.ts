import type { StagedSecrets } from '#credentials/secret'
import type { Rotation } from '#foundation/store'
import { isPromoted } from './decide.ts'
import type { RotationValues } from './values.ts'
import { NothingLeft } from './needs-person.ts'

const LOST =
  'it was begun by an earlier version of Deputy, and it no longer knows which value it has to end: check the target by hand'

/**
 * What a rotation of an earlier version of Deputy works on, which kept nothing itself: as its backend has it, where that is
 * what the rotation has written down.
 * @throws NothingLeft
 */
export const adopt = async (rotation: Rotation, backend: StagedSecrets): Promise<RotationValues> => {
  const { tenant, secret, id, oldVersion } = rotation
  const [first, second] = isPromoted(rotation.step)
    ? (['previous', 'current'] as const)
    : (['current', 'pending'] as const)
  const [old, next] = [await backend.find(tenant, secret, first), await backend.find(tenant, secret, second)]
  if (next?.token !== id || (oldVersion !== null && old?.version !== oldVersion)) throw new NothingLeft(LOST)
  return { old: oldVersion === null ? undefined : old, atTarget: undefined, next: next.value }
}
