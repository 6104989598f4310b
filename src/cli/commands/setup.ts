import { chmod, copyFile, mkdir, readdir, writeFile } from 'node:fs/promises'
import { flushCompileCache } from 'node:module'
import { dirname, join, resolve } from 'node:path'
import type { Command } from 'commander'
import { createSystemRandom, systemClock } from '#clock'
import {
  checkPrivateFiles,
  examples,
  formatProblem,
  type Problem,
  SETTINGS_FILE,
  settingsTemplate,
  socketFolderProblems,
} from '#config'
import type { Daemon } from '#daemon'
import type { DeputyError } from '#errors'
import { newKeyText } from '#foundation/crypto'
import { createFile } from '#foundation/files'
import { createContext, type CommandContext } from '../context.ts'
import { packageVersion, shipped, shippedPolicies } from '../home.ts'
import { keepYoungGenerationSmall } from '../young-generation.ts'
import { CommandError, exit, print, type Terminal } from '../terminal.ts'
import { countOf } from '../words.ts'

/** The singular of each count of a configuration. */
const ONE: Readonly<Record<string, string>> = {
  tenants: 'tenant',
  servers: 'server',
  downstreams: 'downstream',
  clients: 'client',
  apis: 'API',
  policies: 'policy',
}

const FOLDERS = [
  'state',
  'run',
  'tenants',
  'servers',
  'downstreams',
  'clients',
  'providers',
  'policies',
  'policies/access',
]

const init = async (home: string): Promise<{ home: string; created: string[] }> => {
  await mkdir(home, { recursive: true, mode: 0o700 })
  const created: string[] = []
  if (!(await createFile(join(home, SETTINGS_FILE), settingsTemplate)))
    throw new CommandError(exit.failed, `${home} is a configuration folder already.`, `deputy check --home ${home}`)
  created.push(SETTINGS_FILE)
  for (const folder of FOLDERS) {
    await mkdir(join(home, folder), { recursive: true, mode: 0o700 })
    await chmod(join(home, folder), 0o700)
  }
  if (await createFile(join(home, 'state/kek'), newKeyText(createSystemRandom()))) created.push('state/kek')
  for (const [path, text] of Object.entries(examples)) {
    await mkdir(dirname(join(home, path)), { recursive: true, mode: 0o700 })
    await writeFile(join(home, path), text, { mode: 0o600, flag: 'wx' }).then(
      () => {
        created.push(path)
      },
      () => undefined,
    )
  }
  for (const name of await readdir(shippedPolicies)) {
    const path = join('policies/access', name)
    // The schema is for editors; Deputy checks against the one that came with it.
    await copyFile(join(shippedPolicies, name), join(home, path))
    await chmod(join(home, path), 0o600)
    created.push(path)
  }
  return { home, created }
}

/** `init`. */
const addInit = (program: Command, { terminal, home }: CommandContext): void => {
  program
    .command('init')
    .description('write a configuration folder with a commented deputy.yaml and fresh keys')
    .argument('[folder]', 'folder to write; default: the home folder')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy init ./deputy && deputy serve --home ./deputy')
    .action(async (folder: string | undefined, options: { json?: boolean }) => {
      const target = folder === undefined ? home() : resolve(terminal.workingFolder, folder)
      const result = await init(target)
      print(
        terminal,
        options,
        result,
        () =>
          `${target} is ready: ${result.created.length} files. Next:\n  deputy tenant add --home ${target} --help\n  deputy serve --home ${target}`,
      )
    })
}

interface Checked {
  readonly problems: readonly Problem[]
  readonly warnings: readonly Problem[]
  /** How many tenants, servers, downstreams and policies there are; undefined when the files cannot be read. */
  readonly counts: Readonly<Record<string, number>> | undefined
}

/** Checks a configuration folder. @param options.online whether to call the shared store as well */
const checkHome = async (home: string, terminal: Terminal, options: { online: boolean }): Promise<Checked> => {
  // Loaded here: no other command should pay for the policy engine.
  const { readConfiguration } = await import('#daemon/configuration')
  const read = await readConfiguration({ home, shipped, generation: 1 })
  const { configuration } = read
  const files = await checkPrivateFiles(configuration?.privateFiles ?? [])
  if (configuration === undefined)
    return {
      problems: [...read.problems, ...files.problems],
      warnings: [...read.warnings, ...files.warnings],
      counts: undefined,
    }
  const { snapshot, policyIds } = configuration
  const folders = await socketFolderProblems(home, snapshot.settings)
  const store = options.online
    ? await (
        await import('../store-online.ts')
      ).storeProblems(snapshot.settings, {
        home,
        environment: terminal.environment,
        clock: systemClock,
        random: createSystemRandom(),
      })
    : { problems: [], warnings: [] }
  return {
    problems: [...read.problems, ...files.problems, ...store.problems],
    warnings: [...read.warnings, ...files.warnings, ...folders, ...store.warnings],
    counts: {
      tenants: snapshot.tenants.size,
      servers: snapshot.servers.size,
      downstreams: snapshot.downstreams.size,
      clients: snapshot.clients.size,
      apis: snapshot.apis.size,
      policies: policyIds.length,
    },
  }
}

/** `check`. */
const addCheck = (program: Command, { terminal, home }: CommandContext): void => {
  program
    .command('check')
    .description('check configuration, registry, provider files and policies; lists every problem')
    .option('--json', 'print JSON')
    .option('--online', 'check the shared store as well: whether it answers, and what a fail-over loses')
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
