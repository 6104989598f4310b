import type { RotationPolicy } from '#config'
import { isFresh, isSameSecret, type SecretVersion, type StagedSecrets } from '#credentials/secret'
import type { Secret } from '#foundation/crypto'
import type { RotatedSecret, Rotation, RotationStep } from '#foundation/store'
import { expectNew, expectUnchanged, handedOut, REMOVED, type HandedOut } from './handed-out.ts'
import type { RotationValues } from './values.ts'
import { NeedsPerson } from './needs-person.ts'
import type { AskingRotator, ChoosingRotator, Rotator } from './rotator.ts'

/** What an act works on. */
export interface Work {
  readonly rotation: Rotation
  readonly policy: RotationPolicy
  readonly rotator: Rotator
  readonly backend: StagedSecrets
  readonly values: RotationValues
  /** Called when another version has become the one that is handed out. */
  readonly changed: (secret: RotatedSecret) => void
}

/** What an act has come to; `values` where that has changed. */
export interface Outcome {
  readonly step: RotationStep
  readonly values?: RotationValues
  readonly versions?: Partial<Pick<Rotation, 'oldVersion' | 'newVersion'>>
}

/** Something that is done outside of this process. It may be done again after a kill, and then ends in the same way. */
export interface Act {
  readonly name: string
  readonly run: (work: Work) => Promise<Outcome>
}

const now = ({ backend, rotation, values }: Work): Promise<HandedOut> => handedOut(backend, rotation, values)

/** After a leak the new one must be another one, whatever it looks like. */
const requireFresh = (next: Secret, known: readonly (Secret | undefined)[]): void => {
  if (known.some((each) => each !== undefined && !isFresh(next, each)))
    throw new Error('the new one is not different from one that was known before')
}

/** The new one as the backend keeps it, pending; where a person has removed it, it is kept again. */
const staged = async ({ rotation, backend, values }: Work): Promise<SecretVersion> => {
  const pending = await backend.stage(rotation.tenant, rotation.secret, values.next!, rotation.id)
  if (!isSameSecret(pending.value, values.next!)) throw new NeedsPerson('another party has changed its pending version')
  return pending
}

const plan = async ({ rotation, rotator, backend }: Work): Promise<Outcome> => {
  await backend.expectRotatable?.(rotation.tenant, rotation.secret)
  const old = await backend.find(rotation.tenant, rotation.secret, 'current')
  const versions = { oldVersion: old?.version ?? null }
  if (rotator.generatedByTarget === true) {
    await rotator.check?.(old?.value)
    return { step: 'prepared', versions, values: { old, atTarget: await rotator.known(), next: undefined } }
  }
  const next = await rotator.next(old?.value)
  requireFresh(next, [old?.value])
  await rotator.check?.(old?.value, next)
  return { step: 'prepared', versions, values: { old, atTarget: undefined, next } }
}

const stage =
  (step: RotationStep) =>
  async (work: Work): Promise<Outcome> => ({ step, versions: { newVersion: (await staged(work)).version } })

const apply = async (work: Work): Promise<Outcome> => {
  expectUnchanged(await now(work), work.values)
  await (work.rotator as ChoosingRotator).apply(work.values.old?.value, work.values.next!)
  return { step: 'applied' }
}

/** The target stores the value that it has chosen: a process that is killed before it is recorded asks again. */
const choose = async (work: Work): Promise<Outcome> => {
  const { values, rotator } = work
  expectUnchanged(await now(work), values)
  const known = [values.old?.value, values.atTarget].filter((each) => each !== undefined)
  const next = await (rotator as AskingRotator).apply(known)
  requireFresh(next, known)
  return { step: 'chosen', values: { ...values, next } }
}

/** A target that says yes and does nothing is caught here. */
const verify = async ({ rotator, values }: Work): Promise<Outcome> => {
  if ((await rotator.login(values.next!)) !== 'works')
    throw new Error('the target took the change and refuses the new one')
  return { step: 'verified' }
}

/** The login comes after all that takes time, and the last reading after the login. */
const promote = async (work: Work): Promise<Outcome> => {
  const { rotation, rotator, backend, values } = work
  const isDone = expectUnchanged(await now(work), values).is === 'new'
  const next = isDone ? { value: values.next!, version: rotation.newVersion!, token: rotation.id } : await staged(work)
  if ((await rotator.login(values.next!)) !== 'works') throw new Error('the new one no longer works')
  const { is, version } = expectUnchanged(await now(work), values)
  await backend.promote(rotation.tenant, rotation.secret, next, version)
  work.changed(rotation)
  const replaced = is === 'new' ? {} : { oldVersion: version?.version ?? null }
  return { step: 'promoted', versions: { ...replaced, newVersion: next.version } }
}

const retire = async (work: Work): Promise<Outcome> => {
  const { rotator, values } = work
  if (values.old !== undefined) {
    if ((await rotator.login(values.next!)) !== 'works') throw new Error('the new one no longer works')
    const { value } = expectNew(await now(work))
    await rotator.retire(values.old.value, value)
  }
  return { step: 'retired' }
}

const prove = async (work: Work): Promise<Outcome> => {
  const { rotator, values } = work
  expectNew(await now(work))
  if (values.old !== undefined && (await rotator.login(values.old.value)) !== 'refused')
    throw new Error('the old one still works after it was retired')
  if ((await rotator.login(values.next!)) !== 'works') throw new Error('the new one no longer works')
  return { step: 'proven' }
}

const forget = async ({ rotation, backend, values }: Work): Promise<Outcome> => {
  // What was written again with the same value has another name.
  for (const version of new Set([values.old?.version, rotation.oldVersion]))
    if (values.old !== undefined && version != null)
      await backend.retire(rotation.tenant, rotation.secret, { ...values.old, version })
  return { step: 'done' }
}

/** A promotion whose answer was lost may have happened after it was decided to go back. */
const putBack = async (work: Work): Promise<Outcome> => {
  const { rotation, rotator, backend, values } = work
  const { is, version } = await now(work)
  if (is !== 'new') return { step: 'put_back' }
  if (values.old === undefined || (await rotator.login(values.old.value)) !== 'works')
    throw new NeedsPerson('the new one is handed out, and the one before it does not work: set one that works')
  await backend.promote(rotation.tenant, rotation.secret, values.old, version)
  work.changed(rotation)
  return { step: 'put_back' }
}

const endNew = async (work: Work): Promise<Outcome> => {
  const { rotator, values } = work
  const stays = await now(work)
  if (stays.is === 'new') return { step: 'going_back' }
  if (values.next === undefined || (await rotator.login(values.next)) !== 'works') return { step: 'new_ended' }
  if (stays.version === undefined) {
    if (values.old !== undefined) throw new NeedsPerson(REMOVED)
    // The first one of a secret that does not exist: no caller has it.
    return { step: 'new_ended' }
  }
  if ((await rotator.login(stays.version.value)) !== 'works')
    throw new Error('what is handed out does not work, so that the new one was not ended')
  // Read again: between the reading and the ending is nothing that takes time.
  const still = await now(work)
  if (still.version?.version !== stays.version.version) throw new Error('the secret was changed at that moment')
  await rotator.retire(values.next, stays.version.value)
  if ((await rotator.login(values.next)) !== 'refused') throw new Error('the new one still works after it was ended')
  return { step: 'new_ended' }
}

const forgetNew = async (work: Work): Promise<Outcome> => {
  const { rotation, backend } = work
  if ((await now(work)).is === 'new') return { step: 'going_back' }
  const pending = await backend.find(rotation.tenant, rotation.secret, 'pending')
  if (pending?.token === rotation.id) await backend.discard(rotation.tenant, rotation.secret, pending.version)
  return { step: 'gone_back' }
}

export type OpenStep = Exclude<RotationStep, 'done' | 'gone_back'>

/**
 * The way of a rotation. From each step one act leads on; what it comes to is written down before the next one begins.
 *
 * - prepared: the value that is replaced and the new one are kept, sealed, by the rotation itself;
 * - staged: the new one is pending in the backend, before anything else knows of it (threat 28);
 * - applied: the target accepts it;
 * - verified: a login with it has worked;
 * - promoted: it is what is handed out, if nothing else was made current since the plan; the old one has a time of grace;
 * - retired: the target was asked to refuse the old one, after another login with the new one;
 * - proven: a login with the old one was refused;
 * - done: the backend no longer gives the old one.
 *
 * Where the target chooses, it chooses first (`chosen`), and what it has chosen is staged then. The way back puts back what was
 * handed out, ends the new one once a login with what stays has worked, and forgets it.
 */
const ACTS: Readonly<Record<OpenStep, Act>> = {
  planned: { name: 'planning', run: plan },
  prepared: { name: 'staging', run: stage('staged') },
  staged: { name: 'applying', run: apply },
  chosen: { name: 'staging', run: stage('applied') },
  applied: { name: 'verifying', run: verify },
  verified: { name: 'promoting', run: promote },
  promoted: { name: 'retiring', run: retire },
  retired: { name: 'proving', run: prove },
  proven: { name: 'forgetting', run: forget },
  going_back: { name: 'putting back', run: putBack },
  put_back: { name: 'ending the new one', run: endNew },
  new_ended: { name: 'forgetting the new one', run: forgetNew },
}
const CHOOSING: Act = { name: 'applying', run: choose }

export const actAfter = (step: OpenStep, { generatedByTarget }: Pick<Rotator, 'generatedByTarget'>): Act =>
  generatedByTarget === true && (step === 'prepared' || step === 'staged') ? CHOOSING : ACTS[step]

/** Moments at which a kill must do no harm: before and after each act. Crash tests go through these lists. */
const pointsOf = (steps: readonly OpenStep[]): string[] => [
  ...new Set(steps.map((step) => ACTS[step].name).flatMap((name) => [`before ${name}`, `after ${name}`])),
]
export const FORWARD_POINTS = pointsOf([
  'planned',
  'prepared',
  'staged',
  'applied',
  'verified',
  'promoted',
  'retired',
  'proven',
])
export const BACK_POINTS = pointsOf(['going_back', 'put_back', 'new_ended'])
