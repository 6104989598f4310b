import { existsSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import type { Command } from 'commander'
import { createSystemRandom, systemClock } from '#clock'
import type { Surroundings } from '#daemon/foundation'
import { type PostgresOptions, SCHEMA_VERSION } from '#foundation/store'
import { createContext, type CommandContext } from '../context.ts'
import { readSettings } from '../home.ts'
import { CommandError, exit, print, table, withProgress, type Terminal } from '../terminal.ts'
import { addLossCommands } from './store-losses.ts'

/** What the store's drivers need to know of this process. */
const surroundingsOf = ({ home, terminal }: CommandContext): Surroundings => ({
  home: home(),
  environment: terminal.environment,
  clock: systemClock,
  random: createSystemRandom(),
})
// The drivers are loaded here: no other command should pay for them.
const postgresOf = async (surroundings: Surroundings) =>
  (await import('#daemon/foundation')).postgresOptions(await readSettings(surroundings.home), surroundings)
const embeddedOf = async ({ home }: Surroundings): Promise<string> =>
  join(resolve(home, (await readSettings(home)).state), 'deputy.db')

/** The audit log is in files beside the database, or still in its tables where the daemon of this version never ran. */
const copyEmbedded = async (path: string, postgres: PostgresOptions): Promise<Record<string, number>> => {
  const audit = join(dirname(path), 'audit')
  const { copySegments } = await import('#foundation/audit')
  return (await import('#foundation/store')).copyToPostgres(
    path,
    postgres,
    existsSync(audit) ? copySegments(audit) : undefined,
  )
}

/** `store status`. */
const addStatus = (store: Command, context: CommandContext): void => {
  const { terminal } = context
  store
    .command('status')
    .description('kind and place of the store, and the version of its schema')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy store status')
    .action(async (options: { json?: boolean }) => {
      const surroundings = surroundingsOf(context)
      const postgres = await postgresOf(surroundings)
      const version =
        postgres === undefined
          ? await (await import('#foundation/store')).sqliteVersion(await embeddedOf(surroundings))
          : await (await import('#foundation/store')).postgresVersion(postgres)
      const found = {
        store: postgres === undefined ? 'embedded' : 'postgres',
        where:
          postgres === undefined
            ? await embeddedOf(surroundings)
            : `${postgres.host}:${postgres.port}/${postgres.database}`,
        schema: version,
        needed: SCHEMA_VERSION,
        ...(postgres === undefined
          ? {}
          : { durability: await (await import('#foundation/store')).postgresDurability(postgres) }),
      }
      print(terminal, options, found, () =>
        [
          `${found.store} at ${found.where}: schema ${found.schema}, ${found.schema === found.needed ? 'as this program needs it' : `this program needs ${found.needed}`}.`,
          ...(found.durability === undefined ? [] : [`Durability: ${found.durability.sentence}.`]),
        ].join('\n'),
      )
      if (version !== SCHEMA_VERSION)
        throw new CommandError(
          exit.failed,
          '',
          postgres === undefined ? 'deputy serve brings the embedded store to its version.' : 'deputy store migrate',
        )
    })
}

/** `store migrate`. */
const addMigrate = (store: Command, context: CommandContext): void => {
  const { terminal } = context
  store
    .command('migrate')
    .description('migrate the schema of Postgres to this version, after all nodes of the version before have stopped')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy store migrate')
    .action(async (options: { json?: boolean }) => {
      const postgres = await postgresOf(surroundingsOf(context))
      if (postgres === undefined)
        throw new CommandError(
          exit.usage,
          'The embedded store is migrated by the daemon when it starts.',
          'Name Postgres under `store` in deputy.yaml.',
        )
      const done = await withProgress(
        terminal,
        'Migrating',
        (await import('#foundation/store')).migratePostgres(postgres),
      )
      print(terminal, options, done, () =>
        done.from === done.to
          ? `The schema is of version ${done.to} already.`
          : `The schema is of version ${done.to} now; it was ${done.from}.`,
      )
    })
}

/** `store copy`. */
const addCopy = (store: Command, context: CommandContext): void => {
  const { terminal } = context
  store
    .command('copy')
    .description(
      'copy the embedded store into the empty Postgres database that `store` in deputy.yaml names; stop the daemon first',
    )
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExample:\n  systemctl stop deputy && deputy store copy && systemctl start deputy\n\nThe embedded store is not changed. The key folder is not copied: every node needs the same one.',
    )
    .action(async (options: { json?: boolean }) => {
      const surroundings = surroundingsOf(context)
      const postgres = await postgresOf(surroundings)
      if (postgres === undefined)
        throw new CommandError(
          exit.usage,
          'No target is configured.',
          'Name Postgres under `store` in deputy.yaml first.',
        )
      const copied = await withProgress(terminal, 'Copying', copyEmbedded(await embeddedOf(surroundings), postgres))
      print(terminal, options, copied, () =>
        table(
          ['table', 'rows'],
          Object.entries(copied).map(([name, rows]) => ({ table: name, rows })),
        ),
      )
    })
}

/** `store status|migrate|losses|acknowledge|copy`: on the store itself, whether a daemon runs or not. */
export const addStoreCommands = (program: Command, terminal: Terminal): void => {
  const context = createContext(program, terminal)
  const store = program.command('store').description('the store of the daemon')
  addStatus(store, context)
  addMigrate(store, context)
  addLossCommands(store, terminal, context.socket)
  addCopy(store, context)
}
