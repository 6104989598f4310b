import { z } from 'zod'
import type { SecretVersion } from '#credentials/secret'
import { type Envelope, Secret } from '#foundation/crypto'
import { type Rotation, rotationRecordName } from '#foundation/store'

/**
 * What a rotation has to end, from its plan on: the value that it replaces, and the one that takes its place. It is sealed with
 * the rotation itself, because a backend may prune, patch or lose the versions that hold them.
 */
export interface RotationValues {
  /** What was handed out at the plan; undefined where the secret did not exist. */
  readonly old: SecretVersion | undefined
  /** What the target said at the plan, where the target chooses. */
  readonly atTarget: Secret | undefined
  /** The new one; undefined until the target has chosen it. */
  readonly next: Secret | undefined
}

const schema = z.strictObject({
  old: z.strictObject({ value: z.string(), version: z.string(), token: z.string().nullable() }).nullable(),
  atTarget: z.string().nullable(),
  next: z.string().nullable(),
})

type Named = Parameters<typeof rotationRecordName>[0]
const secretOf = (text: string | null): Secret | undefined => (text === null ? undefined : new Secret(text))

export const sealValues = (
  envelope: Envelope,
  rotation: Named,
  { old, atTarget, next }: RotationValues,
): Promise<Uint8Array> => {
  const text: z.input<typeof schema> = {
    old: old === undefined ? null : { value: old.value.reveal(), version: old.version, token: old.token },
    atTarget: atTarget?.reveal() ?? null,
    next: next?.reveal() ?? null,
  }
  return envelope.seal(rotationRecordName(rotation), new Secret(JSON.stringify(text)))
}

/** @throws DeputyError `secret_unreadable` when the tenant's key is gone, or it was sealed for another rotation or target */
export const openValues = async (
  envelope: Envelope,
  rotation: Rotation,
  sealed: Uint8Array,
): Promise<RotationValues> => {
  const { old, atTarget, next } = schema.parse(
    JSON.parse((await envelope.open(rotationRecordName(rotation), sealed)).reveal()),
  )
  return {
    old: old === null ? undefined : { ...old, value: new Secret(old.value) },
    atTarget: secretOf(atTarget),
    next: secretOf(next),
  }
}
