import { z } from 'zod'
import type { Random } from '#clock'
import { Secret } from '#foundation/crypto'
import type { ChoosingRotator } from '../rotator.ts'
import { newPassword } from './login-secret.ts'

export type Step = 'next' | 'apply' | 'login' | 'retire'
/** The secrets that a step is about: `current`, `next` or `old`. */
export type StepSecrets = Readonly<Partial<Record<'current' | 'next' | 'old', Secret | undefined>>>

/** Has an external program do a step. @returns its answer, and whether that was a refusal. @throws when it was not done, or that is not known */
export type DoStep = (
  step: Step,
  secrets: StepSecrets,
) => Promise<{ readonly refused: boolean; readonly output: string }>

const nextSchema = z.looseObject({ next: z.string().min(1).max(65_536) })

/** The secrets of a step as the other side gets them. */
export const revealed = (secrets: StepSecrets): Record<string, string | null> =>
  Object.fromEntries(Object.entries(secrets).map(([name, value]) => [name, value?.reveal() ?? null]))

/**
 * A rotator whose steps are done by a program or a service of the security team's: `next` (answers `{"next": …}`, or nothing for
 * a random one), `apply`, `login` and `retire`; each may come again with the same values.
 */
export const rotatorOfSteps = (
  doStep: DoStep,
  { random, ...facts }: Pick<ChoosingRotator, 'kind' | 'target' | 'supportsDualSecrets'> & { random: Random },
): ChoosingRotator => {
  const done = async (step: Step, secrets: StepSecrets): Promise<string> => {
    const { refused, output } = await doStep(step, secrets)
    if (refused) throw new Error(`the step ${step} was refused`)
    return output.trim()
  }
  return {
    ...facts,
    async next(current) {
      const output = await done('next', { current })
      if (output === '') return new Secret(newPassword(random))
      let parsed
      try {
        parsed = nextSchema.safeParse(JSON.parse(output))
      } catch {
        parsed = undefined
      }
      if (parsed?.success !== true) throw new Error('the step next was not answered with {"next": …}')
      return new Secret(parsed.data.next)
    },
    async apply(current, next) {
      await done('apply', { current, next })
    },
    async login(value) {
      return (await doStep('login', { current: value })).refused ? 'refused' : 'works'
    },
    async retire(old, current) {
      await done('retire', { old, current })
    },
  }
}
