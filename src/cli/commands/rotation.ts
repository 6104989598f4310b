import type { Command } from 'commander'
import { z } from 'zod'
import type { RotatedSecretOrder, RotationOrder } from '#listeners/admin-api'
import { createContext, type CommandContext } from '../context.ts'
import { takesName } from '../name-argument.ts'
import { callDaemon } from '../socket-client.ts'
import { print, type Terminal } from '../terminal.ts'
import { nameOf, type Output, rotationSchema, secretShape } from './rotation-answers.ts'
import {
  addRotationCheck,
  addRotationHistory,
  addRotationPlan,
  addRotationReport,
  addRotationStatus,
} from './rotation-views.ts'

const pausedSchema = z.looseObject({ ...secretShape, paused: z.string().nullable() })

interface Named extends Output {
  tenant: string
  name: string
  backend: string
}

/** A command for one secret: its name, tenant and backend. */
const forSecret = (rotation: Command, verb: string, description: string): Command =>
  takesName(rotation.command(verb), 'name', 'name of the secret')
    .description(description)
    .requiredOption('--tenant <id>', 'tenant of the secret')
    .option('--backend <id>', 'backend of the secret', 'embedded')
    .option('--json', 'print JSON')
    .addHelpText('after', `\nExample:\n  deputy rotation ${verb} database --tenant acme`)

const secretOf = ({ tenant, name: secret, backend }: Named): RotatedSecretOrder => ({ tenant, secret, backend })

/** `rotation run`. */
const addRun = (rotation: Command, { terminal, socket }: CommandContext): void => {
  forSecret(rotation, 'run', 'rotate a secret now')
    .option('--reason <text>', 'reason, for the audit log', 'by hand')
    .action(async (_name: string | undefined, { reason, ...options }: Named & { reason: string }) => {
      const begun = await callDaemon(
        await socket(),
        { path: '/rotations/run', json: { ...secretOf(options), reason } satisfies RotationOrder },
        rotationSchema,
      )
      print(terminal, options, begun, () => `The rotation of ${nameOf(begun)} has begun. See: deputy rotation status`)
    })
}

/** `rotation event`. */
const addEvent = (rotation: Command, { terminal, socket }: CommandContext): void => {
  rotation
    .command('event')
    .argument('<event>', 'leak or owner_left')
    .description('rotate the affected secrets now, where their policy names the event (`when.on`)')
    .option('--tenant <id>', 'only secrets of this tenant')
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
            ? 'No policy rotates a secret for this event.'
            : begun.map((each) => `The rotation of ${nameOf(each)} has begun.`).join('\n'),
        )
      },
    )
}

/** `rotation pause`. */
const addPause = (rotation: Command, { terminal, socket }: CommandContext): void => {
  forSecret(rotation, 'pause', 'suspend planned rotations of a secret; a rotation in progress continues')
    .option('--reason <text>', 'reason, shown by deputy rotation status', 'by hand')
    .action(async (_name: string | undefined, { reason, ...options }: Named & { reason: string }) => {
      const paused = await callDaemon(
        await socket(),
        { path: '/rotations/pause', json: { ...secretOf(options), reason } satisfies RotationOrder },
        pausedSchema,
      )
      print(terminal, options, paused, () => `${nameOf(paused)} does not rotate by the clock until it is resumed.`)
    })
}

/** `rotation resume`. */
const addResume = (rotation: Command, { terminal, socket }: CommandContext): void => {
  forSecret(rotation, 'resume', 'resume planned rotations of a secret').action(
    async (_name: string | undefined, options: Named) => {
      const resumed = await callDaemon(
        await socket(),
        { path: '/rotations/resume', json: secretOf(options) },
        pausedSchema,
      )
      print(terminal, options, resumed, () => `${nameOf(resumed)} rotates by the clock again.`)
    },
  )
}

/** `rotation retry`. */
const addRetry = (rotation: Command, { terminal, socket }: CommandContext): void => {
  forSecret(rotation, 'retry', 'retry now a rotation that waits for its next attempt or for a person').action(
    async (_name: string | undefined, options: Named) => {
      const open = await callDaemon(
        await socket(),
        { path: '/rotations/retry', json: secretOf(options) },
        rotationSchema,
      )
      print(terminal, options, open, () => `Retrying the rotation of ${nameOf(open)}. See: deputy rotation status`)
    },
  )
}

/** `rotation rollback`. */
const addRollback = (rotation: Command, { terminal, socket }: CommandContext): void => {
  forSecret(
    rotation,
    'rollback',
    'roll back a rotation in progress, if the current version stays valid; it does not continue afterwards',
  ).action(async (_name: string | undefined, options: Named) => {
    const turned = await callDaemon(
      await socket(),
      { path: '/rotations/rollback', json: secretOf(options) },
      rotationSchema,
    )
    print(terminal, options, turned, () =>
      turned.state === 'rolled_back'
        ? `The rotation of ${nameOf(turned)} was rolled back: the new version was ended, and the current one stays.`
        : `The rotation of ${nameOf(turned)} will be rolled back as soon as possible${turned.problem === null ? '' : `: ${turned.problem}`}. See: deputy rotation status`,
    )
  })
}

/** `rotation check|plan|status|history|report|run|event|pause|resume|retry|rollback`. */
export const addRotationCommands = (program: Command, terminal: Terminal): void => {
  const context = createContext(program, terminal)
  const rotation = program.command('rotation').description('rotation of secrets by the policies in policies/rotation')
  for (const add of [
    addRotationCheck,
    addRotationPlan,
    addRotationStatus,
    addRotationHistory,
    addRotationReport,
    addRun,
    addEvent,
    addPause,
    addResume,
    addRetry,
    addRollback,
  ])
    add(rotation, context)
}
