import { setTimeout as sleep } from 'node:timers/promises'
import type { SecretVersion, StagedSecrets } from '#credentials/secret'
import { refuse } from '#errors'
import type { RotatedSecret, Rotation, RotationStep, RotationStore } from '#foundation/store'
import type { Rotator } from './rotator.ts'

/** How long a reader waits for a change that is being made (ms), and how often it looks. */
const PATIENCE_MS = 3000
const LOOK_MS = 50

/** From these steps on the old one may have ended already while the new one is not current yet, or be put back. */
const CHANGING: ReadonlySet<RotationStep> = new Set([
  'prepared',
  'chosen',
  'staged',
  'applied',
  'verified',
  'going_back',
  'put_back',
  'new_ended',
])
const isChanging = ({ step }: Rotation): boolean => CHANGING.has(step)

/**
 * What is handed out of a secret while it rotates. Where the target knows two at a time that is the current version. Where
 * it does not, there is a moment in which the old one has ended and the new one is not current yet: a reader waits
 * for it, and if the node that makes the change has died, the target is asked which of the two it accepts. Where the
 * target chooses, it is asked at once.
 */
export const createRotatingSecrets =
  (options: {
    readonly rotations: RotationStore
    readonly backendOf: (id: string) => StagedSecrets | undefined
    /** Reads what the backend has, which may have been read a while ago. */
    readonly readCached: (secret: RotatedSecret) => Promise<SecretVersion>
    /** Undefined for a secret that no policy covers. */
    readonly rotatorOf: (secret: RotatedSecret) => Rotator | undefined
    /** How long a reader waits for a change that is being made (ms). */
    readonly patience?: number
  }) =>
  async (secret: RotatedSecret): Promise<SecretVersion> => {
    const { tenant, secret: name } = secret
    const rotator = options.rotatorOf(secret)
    const backend = options.backendOf(secret.backend)
    if (rotator === undefined || rotator.supportsDualSecrets || backend === undefined) return options.readCached(secret)
    for (const until = performance.now() + (options.patience ?? PATIENCE_MS); ;) {
      const version = await backend.read(tenant, name)
      const open = await options.rotations.open(secret)
      if (open === undefined || !isChanging(open)) {
        // Nothing was begun while it was read.
        if ((await backend.read(tenant, name)).version === version.version) return version
        continue
      }
      // The target has it, even where the node that began the rotation has died.
      if (rotator.generatedByTarget === true)
        return { value: await rotator.known(), version: 'at the target', token: null }
      if (performance.now() < until) {
        await sleep(LOOK_MS)
        continue
      }
      const pending = await backend.find(tenant, name, 'pending')
      if (pending?.token === open.id && (await rotator.login(pending.value)) === 'works') return pending
      const current = await backend.read(tenant, name)
      if ((await rotator.login(current.value)) === 'works') return current
      throw refuse('rotation_in_progress', { tenant, secret: name, seconds: 5 })
    }
  }
