import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { formatProblem, parseYamlFile, type Settings, SETTINGS_FILE, settingsSchema } from '#config'
import type { Configuration, Shipped } from '#daemon/configuration'
import { fileFailure } from '#foundation/files'
import { CommandError, exit, type Terminal } from './terminal.ts'

/** The folder of this package: `src/cli` and `dist/cli` are both two below it. */
const PACKAGE = resolve(fileURLToPath(import.meta.url), '../../..')

export const shipped: Shipped = {
  providers: join(PACKAGE, 'providers'),
  policySchema: join(PACKAGE, 'policies/access/schema.cedarschema'),
}
export const shippedKnownServers = join(PACKAGE, 'providers/mcp')
export const shippedPolicies = join(PACKAGE, 'policies/access')

export const packageVersion = async (): Promise<string> => {
  const { version } = JSON.parse(await readFile(join(PACKAGE, 'package.json'), 'utf8')) as { version: string }
  return version
}

/** The configuration folder: `--home`, else DEPUTY_HOME, else this folder if it is one, else ~/.deputy. */
export const findHome = (option: string | undefined, terminal: Terminal): string => {
  const named = option ?? terminal.environment['DEPUTY_HOME']
  if (named !== undefined && named !== '') return resolve(terminal.workingFolder, named)
  return existsSync(join(terminal.workingFolder, SETTINGS_FILE)) ? terminal.workingFolder : join(homedir(), '.deputy')
}

/**
 * All files of the folder as the daemon would load them.
 * @param next what to do about problems
 * @throws CommandError with every problem
 */
export const readFiles = async (home: string, next?: string): Promise<Configuration> => {
  // Loaded here: no other command should pay for the policy engine.
  const { readConfiguration } = await import('#daemon/configuration')
  const { configuration, problems } = await readConfiguration({ home, shipped, generation: 1 })
  if (configuration === undefined)
    throw new CommandError(exit.configuration, problems.map(formatProblem).join('\n'), next)
  return configuration
}

/** The settings without the registry: enough to find the sockets. @throws CommandError */
export const readSettings = async (home: string): Promise<Settings> => {
  const text = await readFile(join(home, SETTINGS_FILE), 'utf8').catch((error: NodeJS.ErrnoException) => {
    const failure = error.code === 'ENOENT' ? undefined : fileFailure(error)
    if (failure !== undefined)
      throw new CommandError(
        exit.configuration,
        `${join(home, SETTINGS_FILE)} cannot be read: ${failure.problem}.`,
        error.code === 'EACCES'
          ? `Run the command as the user that the daemon runs as. Users of the local API need no configuration folder: set DEPUTY_SOCKET to its socket.`
          : failure.fix,
      )
    throw new CommandError(
      exit.configuration,
      `There is no ${SETTINGS_FILE} in ${home}.`,
      `Name the configuration folder with --home or DEPUTY_HOME, or write one: deputy init ${home}`,
    )
  })
  const {
    values: [settings],
    problems,
  } = parseYamlFile(SETTINGS_FILE, text, settingsSchema)
  if (settings === undefined) throw new CommandError(exit.configuration, problems.map(formatProblem).join('\n'))
  return settings.value
}

export const adminSocket = async (home: string): Promise<string> =>
  resolve(home, (await readSettings(home)).listen.admin)

/** The local API's socket: DEPUTY_SOCKET for users who cannot read the configuration folder, else what the settings say. */
export const localSocket = async (home: string, terminal: Terminal): Promise<string> =>
  terminal.environment['DEPUTY_SOCKET'] ?? resolve(home, (await readSettings(home)).listen.socket)
