import { InvalidArgumentError, type Command } from 'commander'
import { z } from 'zod'
import { formatProblem } from '#config'
import type { CommandContext } from '../context.ts'
import { shipped } from '../home.ts'
import { callDaemon } from '../socket-client.ts'
import { CommandError, exit, print, shownTime, table } from '../terminal.ts'
import { countOf } from '../words.ts'
import { nameOf, type Output, rotationSchema, secretShape } from './rotation-answers.ts'

const targetsSchema = z.array(
  z.looseObject({
    ...secretShape,
    policy: z.string(),
    rotatedAt: z.number().nullable(),
    nextAt: z.number().nullable(),
    paused: z.string().nullable(),
  }),
)
const planSchema = z.array(
  z.looseObject({ ...secretShape, policy: z.string(), at: z.number(), paused: z.string().nullable() }),
)
const reportSchema = z.array(
  z.looseObject({
    ...secretShape,
    policy: z.string(),
    owner: z.string(),
    age: z.number(),
    maxAge: z.number().nullable(),
    overdue: z.boolean(),
  }),
)
const holdersSchema = z.array(z.looseObject({ ...secretShape, server: z.string(), until: z.number() }))

const DAY = 86_400_000
const days = (milliseconds: number): string => `${Math.floor(milliseconds / DAY)} d`
const wholeDays = (text: string): number => {
  const value = Number(text)
  if (!Number.isInteger(value) || value < 1 || value > 366)
    throw new InvalidArgumentError('write a number of days from 1 to 366')
  return value
}
/** States and steps are names in JSON, and words for people. */
const words = (name: string): string => name.replaceAll('_', ' ')
const shownOr = (at: number | null, otherwise: string): string => (at === null ? otherwise : shownTime(at))

const calendar = (plan: z.output<typeof planSchema>): string => {
  const byDay = Map.groupBy(plan, ({ at }) => new Date(at).toISOString().slice(0, 10))
  return [...byDay]
    .map(([day, entries]) =>
      [
        day,
        ...entries.map(
          (entry) =>
            `  ${new Date(entry.at).toISOString().slice(11, 16)} UTC  ${nameOf(entry)} (${entry.policy})${entry.paused === null ? '' : `, paused: ${entry.paused}`}`,
        ),
      ].join('\n'),
    )
    .join('\n')
}

/** `rotation check`. */
export const addRotationCheck = (rotation: Command, { terminal, home }: CommandContext): void => {
  rotation
    .command('check')
    .description('check the rotation policies')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy rotation check\n\nExit code 3 when there is a problem.')
    .action(async (options: Output) => {
      // Loaded here: no other command should pay for the policy engine.
      const { readConfiguration } = await import('#daemon/configuration')
      const { configuration, problems } = await readConfiguration({ home: home(), shipped, generation: 1 })
      const policies = [...(configuration?.snapshot.rotations.values() ?? [])]
      print(
        terminal,
        options,
        { ok: problems.length === 0, problems, policies: policies.map(({ rotation: id }) => id) },
        () =>
          problems.length > 0
            ? problems.map(formatProblem).join('\n')
            : `${countOf(policies.length, 'rotation policy')} in order${policies.length === 0 ? '' : `: ${policies.map(({ rotation: id }) => id).join(', ')}`}.`,
      )
      if (problems.length > 0) throw new CommandError(exit.configuration, '')
    })
}

/** `rotation plan`. */
export const addRotationPlan = (rotation: Command, { terminal, socket }: CommandContext): void => {
  rotation
    .command('plan')
    .description('calendar of planned rotations')
    .option('--days <n>', 'number of days ahead', wholeDays, 30)
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy rotation plan --days 7')
    .action(async ({ days: ahead, ...options }: Output & { days: number }) => {
      const plan = await callDaemon(await socket(), { path: `/rotations/plan?days=${ahead}` }, planSchema)
      print(terminal, options, plan, () =>
        plan.length === 0 ? `Nothing rotates by the clock within ${ahead} days.` : calendar(plan),
      )
    })
}

/** `rotation status`. */
export const addRotationStatus = (rotation: Command, { terminal, socket }: CommandContext): void => {
  rotation
    .command('status')
    .description('every secret that rotates, and rotations in progress')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy rotation status')
    .action(async (options: Output) => {
      const targets = await callDaemon(await socket(), { path: '/rotations/targets' }, targetsSchema)
      const open = (
        await callDaemon(await socket(), { path: '/rotations?limit=10000' }, z.array(rotationSchema))
      ).filter(({ endedAt }) => endedAt === null)
      const holders = await callDaemon(await socket(), { path: '/rotations/holders' }, holdersSchema)
      print(terminal, options, { targets, open, holders }, () =>
        [
          targets.length === 0
            ? 'No rotation policy covers any secret.'
            : table(
                ['tenant', 'secret', 'backend', 'policy', 'rotated', 'next', 'paused'],
                targets.map((each) => ({
                  ...each,
                  rotated: shownOr(each.rotatedAt, 'never'),
                  next: shownOr(each.nextAt, 'on events'),
                  paused: each.paused ?? '',
                })),
              ),
          ...open.map(
            (each) =>
              `${nameOf(each)}: ${words(each.state)} after ${words(each.step)}${each.graceUntil !== null && each.state === 'grace' ? `, the previous version works until ${shownTime(each.graceUntil)}` : ''}${each.problem === null ? '' : `: ${each.problem} (attempt ${each.attempts}, next ${shownTime(each.nextAt)})`}`,
          ),
          ...(holders.length === 0
            ? []
            : [
                `Servers that still use the previous version:\n${table(
                  ['tenant', 'secret', 'backend', 'server', 'until'],
                  holders.map((each) => ({ ...each, until: shownTime(each.until) })),
                )}`,
              ]),
        ].join('\n'),
      )
      if (open.some(({ state }) => state === 'stuck')) throw new CommandError(exit.failed, '')
    })
}

/** `rotation history`. */
export const addRotationHistory = (rotation: Command, { terminal, socket }: CommandContext): void => {
  rotation
    .command('history')
    .description('rotations, the latest first')
    .option('--tenant <id>', 'only rotations of this tenant')
    .option('--name <name>', 'name of the secret')
    .option('--policy <id>', 'only rotations by this policy')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy rotation history --tenant acme')
    .action(async ({ json, name, ...filter }: Output & { tenant?: string; name?: string; policy?: string }) => {
      const rotations = await callDaemon(
        await socket(),
        { path: `/rotations?${new URLSearchParams({ ...filter, ...(name === undefined ? {} : { secret: name }) })}` },
        z.array(rotationSchema),
      )
      print(terminal, { json: json === true }, rotations, () =>
        rotations.length === 0
          ? 'Nothing has rotated yet.'
          : table(
              ['started', 'tenant', 'secret', 'policy', 'reason', 'state', 'step', 'ended', 'problem'],
              rotations.map((each) => ({
                ...each,
                state: words(each.state),
                step: words(each.step),
                started: shownTime(each.startedAt),
                ended: shownOr(each.endedAt, ''),
                problem: each.problem ?? '',
              })),
            ),
      )
    })
}

/** `rotation report`. */
export const addRotationReport = (rotation: Command, { terminal, socket }: CommandContext): void => {
  rotation
    .command('report')
    .description('age of every secret, by owner')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy rotation report\n\nExit code 1 when a secret is over its maximum age.')
    .action(async (options: Output) => {
      const report = await callDaemon(await socket(), { path: '/rotations/report' }, reportSchema)
      const overdue = report.filter((each) => each.overdue)
      print(terminal, options, report, () =>
        [
          report.length === 0
            ? 'No rotation policy covers any secret.'
            : table(
                ['owner', 'tenant', 'secret', 'policy', 'age', 'max', ''],
                report.map((each) => ({
                  ...each,
                  age: days(each.age),
                  max: each.maxAge === null ? '-' : days(each.maxAge),
                  '': each.overdue ? 'OVERDUE' : '',
                })),
              ),
          ...(overdue.length === 0 ? [] : [`Over the maximum age: ${countOf(overdue.length, 'secret')}.`]),
        ].join('\n'),
      )
      if (overdue.length > 0) throw new CommandError(exit.failed, '')
    })
}
