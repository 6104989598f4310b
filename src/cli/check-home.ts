/** The check of a whole configuration folder, as `deputy check` makes it and as every command ends that writes a file. */
import { createSystemRandom, systemClock } from '#clock'
import { checkPrivateFiles, type Problem, socketFolderProblems } from '#config'
import { shipped } from './home.ts'
import type { Terminal } from './terminal.ts'

export interface Checked {
  readonly problems: readonly Problem[]
  readonly warnings: readonly Problem[]
  /** How many tenants, servers, downstreams and policies there are; undefined when the files cannot be read. */
  readonly counts: Readonly<Record<string, number>> | undefined
}

/** Checks a configuration folder. @param options.online whether to call the shared store as well */
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
  const store = options.online
    ? await (
        await import('./store-online.ts')
      ).storeProblems(snapshot.settings, { home, environment, clock: systemClock, random: createSystemRandom() })
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
