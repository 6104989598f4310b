import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { Command } from 'commander'
import { createSystemRandom, systemClock } from '#clock'
import { formatProblem, type Problem } from '#config'
import type { PendingStep } from '#foundation/store'
import { createContext, type CommandContext } from '../context.ts'
import { packageVersion, readSettings, shipped } from '../home.ts'
import { CommandError, exit, print, type Terminal } from '../terminal.ts'
import { countOf } from '../words.ts'

/** What the first start of this version would change. */
interface Upgrade {
  readonly version: string
  readonly store: {
    readonly kind: 'embedded' | 'postgres'
    readonly schema: number
    readonly steps: readonly PendingStep[]
    /** Why this version cannot use it; null where it can. */
    readonly refused: string | null
    /** Audit records that move from the database into segment files. */
    readonly audit_records: number
  }
  readonly configuration: { readonly problems: readonly Problem[]; readonly warnings: readonly Problem[] }
}

const storeOf = async ({ terminal }: CommandContext, home: string): Promise<Upgrade['store']> => {
  const settings = await readSettings(home)
  const { auditRowsIn, pendingSteps, postgresVersion, schemaProblem, sqliteVersion } = await import('#foundation/store')
  const around = { home, environment: terminal.environment, clock: systemClock, random: createSystemRandom() }
  const postgres = await (await import('#daemon/foundation')).postgresOptions(settings, around)
  const described = (kind: Upgrade['store']['kind'], schema: number, rows: number): Upgrade['store'] => ({
    kind,
    schema,
    steps: pendingSteps(schema),
    refused: schemaProblem(schema) ?? null,
    audit_records: rows,
  })
  if (postgres !== undefined) return described('postgres', await postgresVersion(postgres), 0)
  const path = join(resolve(home, settings.state), 'deputy.db')
  // Without a store there is nothing to change: the first start makes one.
  if (!existsSync(path)) return { ...described('embedded', 0, 0), steps: [] }
  return described('embedded', await sqliteVersion(path), auditRowsIn(path))
}

const goingBack = ({ kind }: Upgrade['store']): string =>
  kind === 'embedded'
    ? 'To be able to go back, first: deputy backup (docs/upgrade.md). The version before does not start on the store afterwards.'
    : 'To be able to go back, first: pg_dump, and a copy of the keys folder of the same moment (docs/upgrade.md). Then stop all nodes and run deputy store migrate.'

const linesOf = (home: string, { version, store, configuration }: Upgrade): string[] => [
  `Deputy ${version} on ${home}:`,
  ...(store.refused === null ? [] : [`  store: cannot be used: ${store.refused}`]),
  ...(store.steps.length === 0
    ? [`  store: nothing to change (schema ${store.schema})`]
    : [
        `  store: schema ${store.schema} becomes ${store.steps.at(-1)!.step}`,
        ...store.steps.map(({ step, changes }) => `    ${step}: ${changes}`),
      ]),
  ...(store.audit_records === 0
    ? []
    : [`  audit log: ${countOf(store.audit_records, 'record')} move from the database into files`]),
  ...configuration.problems.map((problem) => `  configuration: ${formatProblem(problem)}`),
  ...configuration.warnings.map((problem) => `  configuration, warning: ${formatProblem(problem)}`),
  ...(store.steps.length === 0 && store.audit_records === 0 ? [] : [goingBack(store)]),
]

/** @throws CommandError unless this version would change nothing */
const assertNothingToDo = ({ store, configuration }: Upgrade): void => {
  if (store.refused !== null) throw new CommandError(exit.start, '')
  if (configuration.problems.length > 0) throw new CommandError(exit.configuration, '')
  if (store.steps.length > 0 || store.audit_records > 0) throw new CommandError(exit.failed, '')
}

/** `upgrade`: what this version would do, before it does it. */
export const addUpgradeCommand = (program: Command, terminal: Terminal): void => {
  const context = createContext(program, terminal)
  program
    .command('upgrade')
    .description('say what the first start of this version would change in the store and refuse in the configuration')
    .option('--check', 'look, and change nothing')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExample:\n  npx --package=./deputy-0.2.0.tgz -- deputy upgrade --check --home /etc/deputy\n\nExit codes: 0 nothing to change, 1 the store would be changed, 3 the configuration would be refused, 7 a newer version has written the store.',
    )
    .action(async (options: { check?: boolean; json?: boolean }) => {
      if (options.check !== true)
        throw new CommandError(
          exit.usage,
          'deputy upgrade changes nothing: the daemon brings the embedded store to its version when it starts, and deputy store migrate does so with Postgres.',
          'deputy upgrade --check',
        )
      const home = context.home()
      const store = await storeOf(context, home)
      const { readConfiguration } = await import('#daemon/configuration')
      const { problems, warnings } = await readConfiguration({ home, shipped, generation: 1 })
      const upgrade: Upgrade = { version: await packageVersion(), store, configuration: { problems, warnings } }
      print(terminal, options, upgrade, () => linesOf(home, upgrade).join('\n'))
      assertNothingToDo(upgrade)
    })
}
