import { InvalidArgumentError, type Command } from 'commander'
import { z } from 'zod'
import { formatProblem } from '#config'
import { adminSocket, findHome, shipped } from '../home.ts'
import { callDaemon } from '../socket-client.ts'
import { CommandError, exit, print, shownTime, table, type Terminal } from '../terminal.ts'
import { takesName } from '../name-argument.ts'
import { countOf } from '../words.ts'

const secretShape = { tenant: z.string(), backend: z.string(), secret: z.string() }
const targetsSchema = z.array(
  z.looseObject({
    ...secretShape,
    policy: z.string(),
    rotatedAt: z.number().nullable(),
    nextAt: z.number().nullable(),
    paused: z.string().nullable(),
  }),
)
const rotationSchema = z.looseObject({
  ...secretShape,
  id: z.string(),
  policy: z.string(),
  reason: z.string(),
  step: z.string(),
  state: z.string(),
  problem: z.string().nullable(),
  attempts: z.number(),
  nextAt: z.number(),
  graceUntil: z.number().nullable(),
  startedAt: z.number(),
  endedAt: z.number().nullable(),
})
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
const pausedSchema = z.looseObject({ ...secretShape, paused: z.string().nullable() })

interface Output {
  json?: boolean
}
interface Named extends Output {
  tenant: string
  name: string
  backend: string
}

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
const nameOf = ({ tenant, backend, secret }: { tenant: string; backend: string; secret: string }): string =>
  `${tenant}/${secret}${backend === 'embedded' ? '' : ` in ${backend}`}`

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

/** `rotation event|check|plan|run|status|history|pause|resume|rollback|report`. */
export const addRotationCommands = (program: Command, terminal: Terminal): void => {
  const home = (): string => findHome(program.opts<{ home?: string }>().home, terminal)
  const socket = (): Promise<string> => adminSocket(home())
  const rotation = program
    .command('rotation')
    .description('rotation of secrets, as the files under policies/rotation say')

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

  rotation
    .command('plan')
    .description('what rotates when, as a calendar')
    .option('--days <n>', 'so many days ahead', wholeDays, 30)
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy rotation plan --days 7')
    .action(async ({ days: ahead, ...options }: Output & { days: number }) => {
      const plan = await callDaemon(await socket(), { path: `/rotations/plan?days=${ahead}` }, planSchema)
      print(terminal, options, plan, () =>
        plan.length === 0 ? `Nothing rotates by the clock within ${ahead} days.` : calendar(plan),
      )
    })

  rotation
    .command('status')
    .description('every secret that rotates, and what is under way')
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
              `${nameOf(each)}: ${words(each.state)} after ${words(each.step)}${each.graceUntil !== null && each.state === 'grace' ? `, the old one works until ${shownTime(each.graceUntil)}` : ''}${each.problem === null ? '' : `: ${each.problem} (attempt ${each.attempts}, next ${shownTime(each.nextAt)})`}`,
          ),
          ...(holders.length === 0
            ? []
            : [
                `Still on the old one:\n${table(
                  ['tenant', 'secret', 'backend', 'server', 'until'],
                  holders.map((each) => ({ ...each, until: shownTime(each.until) })),
                )}`,
              ]),
        ].join('\n'),
      )
      if (open.some(({ state }) => state === 'stuck')) throw new CommandError(exit.failed, '')
    })

  rotation
    .command('history')
    .description('rotations, the latest first')
    .option('--tenant <id>')
    .option('--name <name>', 'name of the secret')
    .option('--policy <id>')
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

  rotation
    .command('report')
    .description('the age of every secret, by owner')
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

  const ofSecret = (verb: string, description: string): Command =>
    takesName(rotation.command(verb), 'name', 'name of the secret')
      .description(description)
      .requiredOption('--tenant <id>')
      .option('--backend <id>', 'the backend that keeps it', 'embedded')
      .option('--json', 'print JSON')
      .addHelpText('after', `\nExample:\n  deputy rotation ${verb} database --tenant acme`)
  const order = ({ tenant, name: secret, backend }: Named): object => ({ tenant, secret, backend })

  ofSecret('run', 'rotate a secret now')
    .option('--reason <text>', 'kept in the record', 'by hand')
    .action(async (_name: string | undefined, { reason, ...options }: Named & { reason: string }) => {
      const begun = await callDaemon(
        await socket(),
        { path: '/rotations/run', json: { ...order(options), reason } },
        rotationSchema,
      )
      print(terminal, options, begun, () => `The rotation of ${nameOf(begun)} has begun. See: deputy rotation status`)
    })
  rotation
    .command('event')
    .argument('<event>', 'leak or owner_left')
    .description('rotate at once what the event is about, where the policy says so (`when.on`)')
    .option('--tenant <id>')
    .option('--name <name>', 'name of the secret')
    .option('--owner <who>', 'owner of the policy')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExample:\n  deputy rotation event leak --tenant acme --name database\n  deputy rotation event owner_left --owner alice@example.com',
    )
    .action(
      async (event: string, { name, json, ...about }: Output & { tenant?: string; name?: string; owner?: string }) => {
        const begun = await callDaemon(
          await socket(),
          { path: '/rotations/event', json: { event, ...about, ...(name === undefined ? {} : { secret: name }) } },
          z.array(rotationSchema),
        )
        print(terminal, { json: json === true }, begun, () =>
          begun.length === 0
            ? 'No policy rotates anything for that.'
            : begun.map((each) => `The rotation of ${nameOf(each)} has begun.`).join('\n'),
        )
      },
    )
  ofSecret('pause', 'keep a secret from rotating by the clock; what is under way goes on')
    .option('--reason <text>', 'shown in the status', 'by hand')
    .action(async (_name: string | undefined, { reason, ...options }: Named & { reason: string }) => {
      const paused = await callDaemon(
        await socket(),
        { path: '/rotations/pause', json: { ...order(options), reason } },
        pausedSchema,
      )
      print(terminal, options, paused, () => `${nameOf(paused)} does not rotate by the clock until it is resumed.`)
    })
  ofSecret('resume', 'let a paused secret rotate again').action(async (_name: string | undefined, options: Named) => {
    const resumed = await callDaemon(await socket(), { path: '/rotations/resume', json: order(options) }, pausedSchema)
    print(terminal, options, resumed, () => `${nameOf(resumed)} rotates by the clock again.`)
  })
  ofSecret('retry', 'try a rotation again now that waits for another attempt or for a person').action(
    async (_name: string | undefined, options: Named) => {
      const open = await callDaemon(await socket(), { path: '/rotations/retry', json: order(options) }, rotationSchema)
      print(
        terminal,
        options,
        open,
        () => `The rotation of ${nameOf(open)} is tried again now. See: deputy rotation status`,
      )
    },
  )
  ofSecret(
    'rollback',
    'turn back a rotation that is under way, if what is handed out now stays and works; nothing leads forward from then on',
  ).action(async (_name: string | undefined, options: Named) => {
    const turned = await callDaemon(
      await socket(),
      { path: '/rotations/rollback', json: order(options) },
      rotationSchema,
    )
    print(terminal, options, turned, () =>
      turned.state === 'rolled_back'
        ? `The rotation of ${nameOf(turned)} was rolled back: the new one was ended, and what was handed out stays.`
        : `The rotation of ${nameOf(turned)} goes back as soon as that is possible${turned.problem === null ? '' : `: ${turned.problem}`}. See: deputy rotation status`,
    )
  })
}
