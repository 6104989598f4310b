import { readFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import {
  agentScopeWarnings,
  basicScopeWarnings,
  auditSinkWarnings,
  sentinelWarnings,
  openIssuerWarnings,
  sharedAudienceWarnings,
  sharedSignInWarnings,
  signInAtWarnings,
  cloudTenantWarnings,
  type Fingerprints,
  fingerprintsOf,
  loadConfiguration,
  loadOnThread,
  type PrivateFile,
  type Problem,
  type Settings,
  SETTINGS_FILE,
  type Snapshot,
} from '#config'
import { existingNames, loadPolicies, type Policy } from '#identity/policy'
import { overlappingServers } from '#identity/workload'

/** Where the files are that come with Deputy itself. */
export interface Shipped {
  readonly providers: string
  readonly policySchema: string
}

/** Everything that files say, policies included, read at one moment. */
export interface Configuration {
  readonly snapshot: Snapshot
  readonly policy: Policy
  readonly policyIds: readonly string[]
  readonly fingerprints: Fingerprints
  /** Files with secrets that the configuration refers to. */
  readonly privateFiles: readonly PrivateFile[]
}

export type ConfigurationResult =
  | {
      readonly configuration: Configuration
      readonly problems: readonly Problem[]
      readonly warnings: readonly Problem[]
    }
  | { readonly configuration: undefined; readonly problems: readonly Problem[]; readonly warnings: readonly Problem[] }

/** The folder of the access policies. */
export const accessPolicies = (snapshot: Pick<Snapshot, 'home' | 'settings'>): string =>
  join(resolve(snapshot.home, snapshot.settings.policies), 'access')

/**
 * Reads and checks the whole configuration folder: every problem, or a configuration.
 * @param options.load how the files are read; a daemon has it done on a thread of its own
 */
export const readConfiguration = async (options: {
  home: string
  shipped: Shipped
  generation: number
  load?: typeof loadConfiguration
}): Promise<ConfigurationResult> => {
  const loaded = await (options.load ?? loadConfiguration)({
    home: options.home,
    shippedProviders: options.shipped.providers,
    generation: options.generation,
  })
  if (loaded.snapshot === undefined) return { configuration: undefined, problems: loaded.problems, warnings: [] }
  const policies = await loadPolicies({
    folder: accessPolicies(loaded.snapshot),
    set: `generation-${options.generation % 2}`,
    schema: await readFile(options.shipped.policySchema, 'utf8'),
    existing: existingNames(loaded.snapshot, loaded.elsewhere),
  })
  const warnings = [...loaded.warnings, ...warningsOf(loaded.snapshot, policies.ids), ...policies.warnings]
  if (policies.policy === undefined) return { configuration: undefined, problems: policies.problems, warnings }
  return {
    configuration: {
      snapshot: loaded.snapshot,
      policy: policies.policy,
      policyIds: policies.ids,
      fingerprints: fingerprintsOf(loaded.snapshot, policies.texts),
      privateFiles: loaded.privateFiles,
    },
    problems: [],
    warnings,
  }
}

const warningsOf = (snapshot: Snapshot, policies: readonly string[]): Problem[] => [
  ...overlappingServers(snapshot).map(([left, right]) => ({
    file: 'servers',
    line: 1,
    message: `${left.server} and ${right.server} match the same processes: the kernel cannot tell them apart.`,
    fix: 'Run them under different users, or let them use private_key_jwt or a client secret.',
  })),
  ...cloudTenantWarnings(snapshot),
  ...basicScopeWarnings(snapshot),
  ...agentScopeWarnings(snapshot),
  ...openIssuerWarnings(snapshot),
  ...sharedAudienceWarnings(snapshot),
  ...sharedSignInWarnings(snapshot),
  ...signInAtWarnings(snapshot),
  ...auditSinkWarnings(snapshot.settings),
  ...sentinelWarnings(snapshot.settings),
  // Without a downstream there is nothing that a policy could permit.
  ...(policies.length === 0 && snapshot.downstreams.size > 0
    ? [
        {
          file: 'policies/access',
          line: 1,
          message: 'There is no access policy, so nothing is allowed.',
          fix: 'See docs/policy.md for a first one.',
        },
      ]
    : []),
]

/** Settings that are read when the daemon starts: a change of them waits for the next start. */
const AT_START: Readonly<Record<string, (settings: Settings) => unknown>> = {
  ...Object.fromEntries(
    (
      [
        'issuer',
        'node',
        'store',
        'cluster',
        'keys',
        'listen',
        'connect_url',
        'state',
        'kek',
        'kek_earlier',
        'audit',
        'cache',
        'secrets',
        'network',
        'proxy',
        'telemetry',
        'log',
      ] as const
    ).map((name) => [name, (settings: Settings) => settings[name]]),
  ),
  'tokens.status_list': ({ tokens }) => tokens.status_list,
  'tokens.signing_key_lifetime': ({ tokens }) => tokens.signing_key_lifetime,
  'limits.header_timeout': ({ limits }) => limits.header_timeout,
  'limits.request_timeout': ({ limits }) => limits.request_timeout,
  'limits.drain': ({ limits }) => limits.drain,
}

export interface ReloadResult {
  readonly applied: boolean
  readonly generation: number
  readonly problems: readonly Problem[]
  readonly warnings: readonly Problem[]
  /** Settings that differ from those in force and take effect at the next start. */
  readonly restart_needed: readonly string[]
}

/** The configuration in force. A reload swaps it whole or leaves it alone. */
export class CurrentConfiguration {
  #current: Configuration
  /** With which the daemon started: several reloads later a setting may still wait for the next start. */
  readonly #started: Settings
  readonly #shipped: Shipped
  #generation: number
  #reloading: Promise<unknown> = Promise.resolve()
  #refused: readonly Problem[] = []

  constructor(first: Configuration, shipped: Shipped) {
    this.#current = first
    this.#started = first.snapshot.settings
    this.#shipped = shipped
    this.#generation = first.snapshot.generation
  }

  readonly snapshot = (): Snapshot => this.#current.snapshot
  readonly policy = (): Policy => this.#current.policy
  get privateFiles(): readonly PrivateFile[] {
    return this.#current.privateFiles
  }
  /** Why the folder as it is now was refused; empty where what is in force is what the folder says. */
  get refused(): readonly Problem[] {
    return this.#refused
  }
  get fingerprints(): Fingerprints {
    return this.#current.fingerprints
  }
  get policyIds(): readonly string[] {
    return this.#current.policyIds
  }

  /** Reads the folder again. With any problem, what was in force stays in force. */
  reload(): Promise<ReloadResult> {
    const turn = this.#reloading
      .then(() => this.#reload())
      .then((result) => {
        this.#refused = result.applied ? [] : result.problems
        return result
      })
    this.#reloading = turn.catch(() => undefined)
    return turn
  }

  async #reload(): Promise<ReloadResult> {
    const before = this.#current.snapshot
    const { configuration, problems, warnings } = await readConfiguration({
      home: before.home,
      shipped: this.#shipped,
      generation: this.#generation + 1,
      load: loadOnThread,
    })
    if (configuration === undefined)
      return { applied: false, generation: before.generation, problems, warnings, restart_needed: [] }
    if (configuration.snapshot.settings.environment !== this.#started.environment) {
      const problem = {
        file: SETTINGS_FILE,
        line: 1,
        message: `This daemon serves ${this.#started.environment}, and its store belongs to that environment.`,
        fix: 'Run another daemon, with a store of its own, for another environment.',
      }
      return { applied: false, generation: before.generation, problems: [problem], warnings, restart_needed: [] }
    }
    this.#generation += 1
    this.#current = configuration
    const { settings } = configuration.snapshot
    const changed = Object.entries(AT_START)
      .filter(([, read]) => JSON.stringify(read(settings)) !== JSON.stringify(read(this.#started)))
      .map(([name]) => name)
    return { applied: true, generation: this.#generation, problems, warnings, restart_needed: changed }
  }
}
