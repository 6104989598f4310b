import type { Command } from 'commander'
import { loadLocations, type Snapshot } from '#config'
import { didYouMean } from '#foundation/text'
import type { CommandContext } from '../context.ts'
import { readFiles, readSettings } from '../home.ts'
import { CommandError, exit, print, shownText, table, withProgress } from '../terminal.ts'

export interface Output {
  json?: boolean
}

/** An id that no file defines. @param kind for example `server` */
export const unknownName = (kind: string, id: string, known: Iterable<string>): CommandError =>
  new CommandError(
    exit.failed,
    `There is no ${kind} '${id}'. ${didYouMean(id, known)}`.trimEnd(),
    `deputy ${kind} list`,
  )

/** The whole registry as the daemon would load it. @throws CommandError with every problem */
export const readSnapshot = async (home: string): Promise<Snapshot> => (await readFiles(home, 'deputy check')).snapshot

/** The file that defines something of the registry, relative to the home. @throws CommandError when there is none */
export const fileOf = async (home: string, folder: string, key: string, id: string): Promise<string> => {
  const { environment } = await readSettings(home)
  const file = (await loadLocations(home, folder, key, environment)).get(id)
  if (file === undefined) throw new CommandError(exit.failed, `There is no ${key} ${id}.`, `deputy ${key} list`)
  return file
}

interface Listing {
  /** For example `server`: the command's name, and the field of a row that has its id. */
  readonly kind: string
  readonly columns: readonly string[]
  readonly read: (current: Snapshot) => readonly object[]
}

const addList = (parent: Command, { kind, columns, read }: Listing, { terminal, home }: CommandContext): void => {
  parent
    .command('list')
    .description(`list every ${kind}`)
    .option('--json', 'print JSON')
    .addHelpText('after', `\nExample:\n  deputy ${kind} list --json`)
    .action(async (options: Output) => {
      const rows = read(await readSnapshot(home()))
      print(terminal, options, rows, () =>
        rows.length === 0 ? `There is no ${kind} yet.` : table(columns, rows as Record<string, unknown>[]),
      )
    })
}

const addShow = (parent: Command, { kind, read }: Listing, { terminal, home }: CommandContext): void => {
  parent
    .command('show')
    .argument('<id>')
    .description(`show one ${kind}`)
    .option('--json', 'print JSON')
    .addHelpText('after', `\nExample:\n  deputy ${kind} show NAME`)
    .action(async (id: string, options: Output) => {
      const found = (read(await readSnapshot(home())) as Record<string, unknown>[]).find((row) => row[kind] === id)
      if (found === undefined)
        throw unknownName(
          kind,
          id,
          (read(await readSnapshot(home())) as Record<string, unknown>[]).map((row) => String(row[kind])),
        )
      print(terminal, options, found, () =>
        Object.entries(found)
          .map(([name, value]) => `${name}: ${typeof value === 'object' ? JSON.stringify(value) : String(value)}`)
          .join('\n'),
      )
    })
}

/** `list` and `show` of one kind of file. */
export const addListing = (parent: Command, listing: Listing, context: CommandContext): void => {
  addList(parent, listing, context)
  addShow(parent, listing, context)
}

/**
 * Calls an issuer and shows what it says of itself, or warns that its tokens cannot be verified now, so that a mistake
 * in its URL is seen before the first user meets it.
 */
export const checkIssuer = async (url: string, { terminal, home }: CommandContext): Promise<void> => {
  const { discoverIssuer } = await import('../remote/issuer-discovery.ts')
  const { network } = await readSettings(home())
  const result = await withProgress(terminal, 'Calling the issuer', discoverIssuer(url, { home: home(), network }))
  if ('found' in result) terminal.out(`${shownText(result.found.map((line) => `found ${line}`).join('\n'))}\n`)
  else
    terminal.err(
      `Its tokens cannot be verified yet: ${shownText(result.problem)}\nNext: compare the URL with \`issuer\` in the issuer's metadata, which must be identical; network.allow_private and network.hosts in deputy.yaml control how it is reached.\n`,
    )
}
