import type { Command } from 'commander'
import { z } from 'zod'
import { formatProblem } from '#config'
import type { KeyRotationOrder } from '#listeners/admin-api'
import { createContext, type CommandContext } from '../context.ts'
import { callDaemon } from '../socket-client.ts'
import { CommandError, exit, print, withProgress, shownTime, type Terminal } from '../terminal.ts'
import { countOf } from '../words.ts'
import { addLoginCommands } from './login.ts'
import { addPolicyCommands } from './policy.ts'
import { addSecretCommands } from './secret.ts'

interface Output {
  json?: boolean
}

const statusSchema = z.looseObject({
  version: z.string(),
  pid: z.number(),
  ready: z.boolean(),
  environment: z.string(),
  generation: z.number(),
  started_at: z.string(),
  checks: z.record(z.string(), z.string()),
  counts: z.record(z.string(), z.number()),
  memory: z.looseObject({ rss: z.number() }),
  node: z.looseObject({ node: z.string() }),
  nodes: z.array(z.looseObject({ id: z.string(), about: z.string(), leaseLeft: z.number(), acknowledged: z.number() })),
  providers: z.array(
    z.looseObject({ provider: z.string(), tenant: z.string(), state: z.string(), until: z.number().nullable() }),
  ),
  audit_sinks: z.array(
    z.looseObject({
      name: z.string(),
      ok: z.boolean(),
      confirmed: z.number().nullable(),
      answered: z.string().nullable(),
      lag: z.object({ records: z.number(), seconds: z.number() }),
    }),
  ),
  durability: z.looseObject({ sentence: z.string() }).nullish(),
  proxy: z.array(z.string()),
  upstream_revocations: z.looseObject({ queued: z.number(), irrevocable: z.number() }).nullable(),
})
const reloadSchema = z.looseObject({
  applied: z.boolean(),
  generation: z.number(),
  problems: z.array(z.object({ file: z.string(), line: z.number(), message: z.string(), fix: z.string() })),
  restart_needed: z.array(z.string()),
})
const rotatedSchema = z.looseObject({
  keys: z.string(),
  rewrapped: z.number().optional(),
  kid: z.string().optional(),
  kids: z.record(z.string(), z.string()).optional(),
  kek: z.string().optional(),
})

/** Ready or not, and what else makes the exit code another one than 0. */
const headline = ({ ready, checks }: { ready: boolean; checks: Readonly<Record<string, string>> }): string => {
  if (!ready) return 'not ready'
  const failing = Object.keys(checks).filter((name) => checks[name] !== 'ok')
  return failing.length === 0 ? 'ready' : `ready, but look at: ${failing.join(', ')}`
}

/** `status`. */
const addStatus = (program: Command, { terminal, socket }: CommandContext): void => {
  program
    .command('status')
    .description('state of the daemon: readiness, checks, nodes, providers')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy status --json')
    .action(async (options: Output) => {
      const status = await callDaemon(await socket(), { path: '/status' }, statusSchema)
      print(terminal, options, status, () =>
        [
          `deputy ${status.version}, process ${status.pid}, ${status.environment}, since ${status.started_at}: ${headline(status)}`,
          ...Object.entries(status.checks).map(([name, state]) => `  ${name}: ${state}`),
          `  configuration ${status.generation}: ${Object.entries(status.counts)
            .map(([name, count]) => countOf(count, name.replace(/ies$/, 'y').replace(/s$/, '')))
            .join(', ')}`,
          ...(status.proxy.length === 0 ? [] : [`  proxy: ${status.proxy.join(', ')}`]),
          ...(status.durability === null || status.durability === undefined
            ? []
            : [`  durability: ${status.durability.sentence}`]),
          ...status.audit_sinks.map(
            ({ name, confirmed, lag, answered }) =>
              `  audit sink ${name}: has records up to ${confirmed ?? 'an unknown one'}${lag.records === 0 ? '' : `, ${lag.records} records and ${lag.seconds} s behind`}${answered === null ? '' : `; its receiver said: ${answered}`}`,
          ),
          ...status.nodes.map(
            ({ id, about, leaseLeft, acknowledged }) =>
              `  node ${about}${about === status.node.node ? ' (this one)' : ''}: ${leaseLeft > 0 ? `lease for ${leaseLeft} ms` : 'no lease'}, has applied revocations up to ${acknowledged} (${id})`,
          ),
          ...status.providers.map(
            ({ provider, tenant, state, until }) =>
              `  provider ${provider} for ${tenant}: ${state.replaceAll('_', ' ')}${until === null ? '' : ` until ${shownTime(until)}`}`,
          ),
          ...(status.upstream_revocations === null ||
          status.upstream_revocations.irrevocable + status.upstream_revocations.queued === 0
            ? []
            : [
                `  revocations at providers: ${status.upstream_revocations.queued} queued, ${status.upstream_revocations.irrevocable} abandoned (deputy grant pending)`,
              ]),
          `  memory: ${Math.round(status.memory.rss / 1_048_576)} MiB`,
        ].join('\n'),
      )
      const {
        configuration = 'ok',
        secret_files: files = 'ok',
        history = 'ok',
        audit = 'ok',
        audit_sinks: sinks = 'ok',
      } = status.checks
      if (!status.ready || [history, audit, sinks].some((state) => state !== 'ok'))
        throw new CommandError(exit.failed, '')
      if (configuration !== 'ok' || files !== 'ok') throw new CommandError(exit.configuration, '')
    })
}

/** `reload`. */
const addReload = (program: Command, { terminal, socket }: CommandContext): void => {
  program
    .command('reload')
    .description('reload the configuration; a configuration with a problem is rejected as a whole')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy reload')
    .action(async (options: Output) => {
      const result = await callDaemon(await socket(), { path: '/reload', method: 'POST' }, reloadSchema)
      print(terminal, options, result, () =>
        result.applied
          ? `Configuration ${result.generation} is active.${result.restart_needed.length === 0 ? '' : ` After a restart also: ${result.restart_needed.join(', ')}.`}`
          : `${result.problems.map(formatProblem).join('\n')}\nReload rejected; keeping the current configuration.`,
      )
      if (!result.applied) throw new CommandError(exit.configuration, '')
    })
}

/** `key rotate`. */
const addKeyRotate = (key: Command, { terminal, socket }: CommandContext): void => {
  key
    .command('rotate')
    .description(
      'make a new key-encryption key and wrap every data key with it; with --signing, make a new signing key',
    )
    .option('--signing', 'rotate the signing key instead')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy key rotate')
    .action(async (options: Output & { signing?: boolean }) => {
      const result = await withProgress(
        terminal,
        'Wrapping the data keys',
        callDaemon(
          await socket(),
          {
            path: '/keys/rotate',
            json: { keys: options.signing === true ? 'signing' : 'key-encryption' } satisfies KeyRotationOrder,
          },
          rotatedSchema,
        ),
      )
      print(terminal, options, result, () =>
        options.signing === true
          ? [
              `New tokens are signed by ${result.kid}; the previous key stays published until its last token has expired.`,
              ...Object.entries(result.kids ?? {})
                .filter(([purpose]) => purpose !== 'token')
                .map(([purpose, kid]) => `  ${purpose}: ${kid}`),
            ].join('\n')
          : `The key-encryption key is ${result.kek}; ${countOf(result.rewrapped ?? 0, 'data key')} rewrapped.`,
      )
    })
}

/** `status`, `reload`, `key`, `policy`, `secret`, `login`, `logout`. */
export const addOperationCommands = (program: Command, terminal: Terminal): void => {
  const context = createContext(program, terminal)
  addStatus(program, context)
  addReload(program, context)
  addKeyRotate(program.command('key').description('encryption and signing keys'), context)
  addPolicyCommands(program, context)
  addSecretCommands(program, context)
  addLoginCommands(program, context)
}
