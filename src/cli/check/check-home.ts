/** The check of a whole configuration folder, as `deputy check` makes it and as every command ends that writes a file. */
import { createSystemRandom, systemClock } from '#clock'
import { checkPrivateFiles, type Problem, type Settings, socketFolderProblems } from '#config'
import { shipped } from '../home.ts'
import type { Terminal } from '../terminal.ts'

export interface Checked {
  readonly problems: readonly Problem[]
  readonly warnings: readonly Problem[]
  /** How many tenants, servers, downstreams and policies there are; undefined when the files cannot be read. */
  readonly counts: Readonly<Record<string, number>> | undefined
}

/** What calls to the shared store and to the receivers of audit records show. */
const onlineProblems = async (settings: Settings, home: string, environment: Terminal['environment']) => {
  const [{ storeProblems }, { sinkProblems }] = await Promise.all([
    import('./store-online.ts'),
    import('./sinks-online.ts'),
  ])
  const surroundings = { home, environment, clock: systemClock, random: createSystemRandom() }
  const [store, sinks] = await Promise.all([storeProblems(settings, surroundings), sinkProblems(settings, home)])
  return { problems: [...store.problems, ...sinks], warnings: store.warnings }
}

/** Checks a configuration folder. @param options.online whether to call the shared store and the audit sinks as well */
export const checkHome = async (
  home: string,
  { environment }: Pick<Terminal, 'environment'>,
  options: { online: boolean },
): Promise<Checked> => {
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
  const online = options.online
    ? await onlineProblems(snapshot.settings, home, environment)
    : { problems: [], warnings: [] }
  return {
    problems: [...read.problems, ...files.problems, ...online.problems],
    warnings: [...read.warnings, ...files.warnings, ...folders, ...online.warnings],
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
