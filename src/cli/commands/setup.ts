import { flushCompileCache } from 'node:module'
import type { Command } from 'commander'
import { createSystemRandom, systemClock } from '#clock'
import { formatProblem } from '#config'
import type { Daemon } from '#daemon'
import type { DeputyError } from '#errors'
import { checkHome } from '../check/check-home.ts'
import { createContext, type CommandContext } from '../context.ts'
import { packageVersion, shipped } from '../home.ts'
import { keepYoungGenerationSmall } from '../young-generation.ts'
import { CommandError, exit, print, type Terminal } from '../terminal.ts'
import { countOf } from '../words.ts'
import { addInit } from './init.ts'

/** The singular of each count of a configuration. */
const ONE: Readonly<Record<string, string>> = {
  tenants: 'tenant',
  servers: 'server',
  downstreams: 'downstream',
  clients: 'client',
  apis: 'API',
  policies: 'policy',
}

/** `check`. */
const addCheck = (program: Command, { terminal, home }: CommandContext): void => {
  program
    .command('check')
    .description('check configuration, registry, provider files and policies; lists every problem')
    .option('--json', 'print JSON')
    .option(
      '--online',
      'call the shared store and the receivers of audit records as well: whether they answer, and what a fail-over loses',
    )
    .option('--strict', 'treat warnings as problems, for example in CI')
    .addHelpText('after', '\nExample:\n  deputy check --strict || exit 1\n\nExit code 3 when there is a problem.')
    .action(async (options: { json?: boolean; strict?: boolean; online?: boolean }) => {
      const folder = home()
      const { problems, warnings, counts } = await checkHome(folder, terminal, { online: options.online === true })
      const isInOrder = problems.length === 0 && (options.strict !== true || warnings.length === 0)
      print(terminal, options, { ok: isInOrder, problems, warnings, ...counts }, () =>
        [
          ...problems.map(formatProblem),
          ...warnings.map((warning) => `warning: ${formatProblem(warning)}`),
          !isInOrder
            ? `${countOf(problems.length, 'problem')} and ${countOf(warnings.length, 'warning')} in ${folder}.`
            : `${folder} is in order: ${Object.entries(counts ?? {})
                .map(([what, count]) => countOf(count, ONE[what] ?? what))
                .join(', ')}.`,
        ].join('\n'),
      )
      if (!isInOrder) throw new CommandError(exit.configuration, '')
    })
}

/** `serve`. */
const addServe = (program: Command, { terminal, home }: CommandContext): void => {
  program
    .command('serve')
    .description('run the daemon until SIGTERM; SIGHUP reloads the configuration')
    .addHelpText('after', '\nExample:\n  deputy serve --home /etc/deputy')
    .action(async () => {
      keepYoungGenerationSmall()
      let daemon: Daemon | undefined
      let wantsReload = false
      // From the beginning: a SIGHUP that comes while the daemon starts would end the process.
      process.on('SIGHUP', () => {
        if (daemon === undefined) wantsReload = true
        else void daemon.reload()
      })
      // Loaded here: no other command should pay for the whole daemon.
      const { startDaemon } = await import('#daemon')
      const started = await startDaemon({
        home: home(),
        shipped,
        version: await packageVersion(),
        environment: terminal.environment,
        clock: systemClock,
        random: createSystemRandom(),
      })
      // A daemon that is killed later would leave nothing compiled for its next start.
      flushCompileCache()
      daemon = started
      if (wantsReload) void started.reload()
      const replaced = await new Promise<DeputyError | undefined>((resolve) => {
        void started.replaced.then(resolve)
        for (const signal of ['SIGTERM', 'SIGINT'] as const)
          process.once(signal, () => {
            resolve(undefined)
          })
      })
      await started.stop()
      if (replaced !== undefined) throw replaced
    })
}

/** `init`, `check`, `serve`. */
export const addSetupCommands = (program: Command, terminal: Terminal): void => {
  const context = createContext(program, terminal)
  addInit(program, context)
  addCheck(program, context)
  addServe(program, context)
}
