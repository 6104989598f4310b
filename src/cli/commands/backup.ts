import { readFile, realpath } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import type { Command } from 'commander'
import { z } from 'zod'
import { createSystemRandom, systemClock } from '#clock'
import { assertPrivateFile, createFile } from '#foundation/files'
import { newKeyText, Secret } from '#foundation/crypto'
import type { BackupAnnouncement } from '#listeners/admin-api'
import { createContext, type CommandContext } from '../context.ts'
import { packageVersion, readSettings } from '../home.ts'
import { sendOverSocket } from '../socket-client.ts'
import { CommandError, exit, print, withProgress, type Terminal } from '../terminal.ts'
import { backupLines, restoredLines, verifiedLines } from './backup-views.ts'

const KEY_FILE = '--key-file <file>'
const KEY_FILE_TEXT = 'file with the key of the backup: a line of at least 16 characters; deputy backup key writes one'
const DATA_KEYS = '--data-keys <file>'

/** Characters of a key or passphrase at least. */
const SHORTEST_KEY = 16

const filesSchema = z.looseObject({
  files: z.array(z.strictObject({ name: z.string(), path: z.string(), bytes: z.number() })),
})

const readKey = async (path: string): Promise<Secret> => {
  await assertPrivateFile(path)
  const text = (await readFile(path, 'utf8')).split('\n')[0]?.trim() ?? ''
  if (text.length < SHORTEST_KEY)
    throw new CommandError(
      exit.usage,
      `The first line of ${path} has fewer than ${SHORTEST_KEY} characters: it is no key of a backup.`,
      'deputy backup key FILE',
    )
  return new Secret(text)
}

/** A file that is to be made: in a folder that is there. */
const newPath = async ({ terminal }: CommandContext, path: string): Promise<string> => {
  const full = resolve(terminal.workingFolder, path)
  const folder = await realpath(dirname(full)).catch((error: NodeJS.ErrnoException) => {
    throw new CommandError(exit.failed, `The folder ${dirname(full)} cannot be opened (${error.code}).`)
  })
  return join(folder, basename(full))
}

/** Has the daemon record the backup. @returns undefined where none runs, or one of an earlier version */
const announce = async (socketPath: string, id: string) => {
  const order = { path: '/backup', json: { id } satisfies BackupAnnouncement }
  const answer = await sendOverSocket(socketPath, order).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ECONNREFUSED') return undefined
    throw new CommandError(
      exit.unreachable,
      `The daemon could not be called on ${socketPath} (${error.code ?? error.message}).`,
      'Run the command as the user that the daemon runs as.',
    )
  })
  if (answer === undefined || answer.status === 404) return undefined
  const answered: unknown = JSON.parse(answer.text)
  if (answer.status === 200) return filesSchema.parse(answered).files
  const problem = z.looseObject({ error_description: z.string() }).safeParse(answered).data?.error_description
  throw new CommandError(exit.failed, problem ?? `The daemon answered ${answer.status}.`)
}

const POSTGRES =
  'Copy the database with pg_dump. Also keep the configuration folder, the key-encryption key, and the folder of the data keys (keys): docs/backup.md says how long.'

interface BackupOptions {
  readonly keyFile: string
  readonly dataKeys?: string
  readonly json?: boolean
}

const runBackup = async (context: CommandContext, file: string, options: BackupOptions): Promise<void> => {
  const { terminal } = context
  const home = context.home()
  const settings = await readSettings(home)
  if (settings.store !== 'embedded')
    throw new CommandError(exit.usage, 'The store is in Postgres, which deputy backup does not copy.', POSTGRES)
  const path = await newPath(context, file)
  const dataKeys = options.dataKeys === undefined ? undefined : await newPath(context, options.dataKeys)
  if (dataKeys === path) throw new CommandError(exit.usage, 'The backup and the data keys need a file each.')
  const keyFile = resolve(terminal.workingFolder, options.keyFile)
  const passphrase = await readKey(keyFile)
  const socket = await context.socket()
  const { createBackup } = await import('#daemon/backup')
  const made = await withProgress(
    terminal,
    'Copying',
    createBackup({
      home,
      settings,
      environment: terminal.environment,
      path,
      dataKeys,
      keyFile,
      passphrase,
      clock: systemClock,
      random: createSystemRandom(),
      version: await packageVersion(),
      announce: (id) => announce(socket, id),
    }),
  )
  print(terminal, options, { path, ...made }, () => backupLines(path, dataKeys, made).join('\n'))
}

const keyMissing = (): CommandError =>
  new CommandError(exit.usage, `The key of the backup is missing: ${KEY_FILE}`, 'deputy backup --help')

const addVerify = (backup: Command, { terminal }: CommandContext): void => {
  backup
    .command('verify')
    .description('read a backup to its end: every byte, the links of the audit log, and the database')
    .argument('<file>', 'the backup')
    .option(KEY_FILE, KEY_FILE_TEXT)
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy backup verify /backup/deputy.backup --key-file /root/backup.key')
    .action(async (file: string, _: object, command: Command) => {
      // `backup` itself has options of these names, and takes them.
      const { keyFile, ...options } = command.optsWithGlobals<{ keyFile?: string; json?: boolean }>()
      if (keyFile === undefined) throw keyMissing()
      const path = resolve(terminal.workingFolder, file)
      const passphrase = await readKey(resolve(terminal.workingFolder, keyFile))
      const { verifyBackup } = await import('#daemon/backup')
      const facts = await withProgress(terminal, 'Reading', verifyBackup(path, passphrase))
      print(terminal, options, { path, ...facts, settings: undefined }, () => verifiedLines(path, facts).join('\n'))
    })
}

const addKey = (backup: Command, context: CommandContext): void => {
  const { terminal } = context
  backup
    .command('key')
    .description('write a new key for backups into a file of mode 0600')
    .argument('<file>', 'the file to write; it must not exist')
    .addHelpText('after', '\nExample:\n  deputy backup key /root/backup.key')
    .action(async (file: string) => {
      const path = await newPath(context, file)
      if (!(await createFile(path, newKeyText(createSystemRandom()))))
        throw new CommandError(exit.failed, `${path} exists already, and is not replaced.`)
      print(
        terminal,
        {},
        { path },
        () => `${path} is the key of backups. Keep a copy apart from them: without it no backup can be read.`,
      )
    })
}

/** `backup`. */
const addBackup = (program: Command, context: CommandContext): void => {
  const backup = program
    .command('backup')
    .description('write an encrypted backup of the store, the audit log and the configuration; the daemon may run')
    .argument('<file>', 'the file to write; it must not exist')
    // Not `requiredOption`: its commands would need the option before their names.
    .option(KEY_FILE, KEY_FILE_TEXT)
    .option(DATA_KEYS, "file for the tenants' data keys; it replaces an earlier one")
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExample:\n  deputy backup /backup/deputy-$(date +%F).backup --data-keys /backup/deputy.keys --key-file /root/backup.key\n\nThe key-encryption key is never in a backup: keep a copy of it elsewhere.',
    )
    .action((file: string, { keyFile, ...options }: Partial<BackupOptions>) => {
      if (keyFile === undefined) throw keyMissing()
      return runBackup(context, file, { keyFile, ...options })
    })
  addVerify(backup, context)
  addKey(backup, context)
}

interface RestoreOptions extends BackupOptions {
  readonly keepConfiguration?: boolean
  readonly replace?: boolean
  readonly log?: string
  readonly acceptLoss?: boolean
}

const runRestore = async ({ terminal, home }: CommandContext, file: string, options: RestoreOptions): Promise<void> => {
  const at = (path: string | undefined): string | undefined =>
    path === undefined ? undefined : resolve(terminal.workingFolder, path)
  const folder = home()
  const passphrase = await readKey(resolve(terminal.workingFolder, options.keyFile))
  const configured = options.keepConfiguration === true ? await readSettings(folder) : undefined
  const { restoreBackup } = await import('#daemon/backup')
  const restored = await withProgress(
    terminal,
    'Restoring',
    restoreBackup({
      home: folder,
      path: resolve(terminal.workingFolder, file),
      dataKeys: at(options.dataKeys),
      passphrase,
      clock: systemClock,
      configured,
      replaces: options.replace === true,
      log: at(options.log),
      acceptsLoss: options.acceptLoss === true,
    }),
  )
  const { facts, ...rest } = restored
  print(terminal, options, { home: folder, ...rest, backup: facts.manifest }, () =>
    restoredLines(folder, restored).join('\n'),
  )
}

/** `restore`. */
const addRestore = (program: Command, context: CommandContext): void => {
  program
    .command('restore')
    .description('bring back what deputy backup has written, into an empty folder; stop the daemon first')
    .argument('<file>', 'the backup')
    .requiredOption(KEY_FILE, KEY_FILE_TEXT)
    .option(DATA_KEYS, "file with the tenants' data keys; not used where the folder of the keys has some")
    .option('--log <folder>', 'audit log that goes on behind the backup; its orders are restored')
    .option('--accept-loss', 'restore without a later audit log: orders since the backup are lost')
    .option('--replace', 'move aside what the folders hold; its audit log is used as --log')
    .option('--keep-configuration', 'restore the state alone; the configuration folder stays as it is')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExample:\n  deputy restore /backup/deputy-2026-11-28.backup --data-keys /backup/deputy.keys --key-file /root/backup.key --accept-loss --home /etc/deputy',
    )
    .action((file: string, options: RestoreOptions) => runRestore(context, file, options))
}

/** `backup`, `restore`: on the files of an installation, whether a daemon runs or not. */
export const addBackupCommands = (program: Command, terminal: Terminal): void => {
  const context = createContext(program, terminal)
  addBackup(program, context)
  addRestore(program, context)
}
