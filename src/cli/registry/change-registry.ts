/** A change of the files of a configuration folder: made alone, checked as a whole, and taken back where it is wrong. */
import { existsSync } from 'node:fs'
import { access, constants } from 'node:fs/promises'
import { join } from 'node:path'
import { formatProblem, type Problem, SETTINGS_FILE } from '#config'
import { lockFolder } from '#foundation/files'
import { type Checked, checkHome } from '../check/check-home.ts'
import { daemonReload } from './daemon-reload.ts'
import { readSettings } from '../home.ts'
import type { Undo } from './registry-file.ts'
import { CommandError, exit, shownText, type Terminal } from '../terminal.ts'

/** What a change has done. */
export interface Change {
  readonly file: string
  /** A sentence for people. */
  readonly done: string
  /** Takes it back where it has introduced a problem. Absent: the files are a draft, which stays to be corrected. */
  readonly undo?: Undo
  /** What to do next; lines for people. */
  readonly next?: string
}

/** How long a change by another command is waited for (ms). */
const LOCK_WAIT_MS = 30_000

/** Problems that a change has introduced. Lines move, so they are not compared. */
const newAmong = (after: readonly Problem[], before: readonly Problem[]): Set<Problem> => {
  const keyOf = ({ file, message }: Problem): string => `${file}\n${message}`
  const known = before.map(keyOf)
  return new Set(
    after.filter((problem) => {
      const at = known.indexOf(keyOf(problem))
      if (at >= 0) known.splice(at, 1)
      return at < 0
    }),
  )
}

const listed = (problems: Iterable<Problem>): string => [...problems].map(formatProblem).join('\n')

/** @throws CommandError where this user may not write the folder */
const assertWritable = async (home: string): Promise<void> => {
  await access(home, constants.W_OK).catch((error: NodeJS.ErrnoException) => {
    throw new CommandError(
      exit.failed,
      error.code === 'EROFS'
        ? `${home} is on a file system that is read-only, so nothing was changed.`
        : `This user may not write to ${home}, so nothing was changed.`,
      `Run the command as the owner of the folder (sudo, or the user that the daemon runs as).`,
    )
  })
}

/** Takes a change back that has introduced problems, or leaves it as a draft. @throws CommandError `configuration` */
const refuseChange = async ({ file, done, undo }: Change, fresh: ReadonlySet<Problem>, terminal: Terminal) => {
  if (undo === undefined) {
    terminal.out(`${done}\n`)
    throw new CommandError(
      exit.configuration,
      `Problems from this change:\n${listed(fresh)}`,
      `Correct ${file}, then run: deputy check`,
    )
  }
  await undo()
  throw new CommandError(
    exit.configuration,
    `${file} was taken back, because of problems from this change:\n${listed(fresh)}`,
    'Correct the command, and run it again.',
  )
}

const tell = async (
  { done, next }: Change,
  [before, after]: readonly [Checked, Checked],
  { home, terminal }: { readonly home: string; readonly terminal: Terminal },
): Promise<void> => {
  terminal.out(`${done}\n`)
  if (after.problems.length > 0) terminal.err(`Problems from before this change:\n${listed(after.problems)}\n`)
  for (const warning of newAmong(after.warnings, before.warnings)) terminal.err(`warning: ${formatProblem(warning)}\n`)
  const reloaded = await daemonReload(home)
  if (reloaded !== undefined) terminal.out(`${shownText(reloaded)}\n`)
  if (next !== undefined) terminal.out(`Next: ${shownText(next)}\n`)
}

/**
 * Changes the files of a home and ends with a check of the whole folder: shows the problems and warnings that the
 * change has introduced, and the problems from before. One command at a time changes a folder.
 * @throws CommandError `configuration` when the change has introduced problems; it is taken back if it can be
 */
export const changeRegistry = async (
  home: string,
  terminal: Terminal,
  change: () => Promise<Change>,
): Promise<void> => {
  // Says that there is no home, or that this user may not read it.
  if (!existsSync(join(home, SETTINGS_FILE))) await readSettings(home)
  await assertWritable(home)
  await using lock = await lockFolder(home, LOCK_WAIT_MS)
  if (lock === undefined)
    throw new CommandError(exit.failed, `Another command is changing ${home}; nothing was changed.`, 'Run it again.')
  const before = await checkHome(home, terminal, { online: false })
  const made = await change()
  const after = await checkHome(home, terminal, { online: false })
  // Where the files could not be read as a whole before and can be now, more of them was checked: nothing is new.
  const isRepaired = before.counts === undefined && after.counts !== undefined
  const fresh = isRepaired ? new Set<Problem>() : newAmong(after.problems, before.problems)
  if (fresh.size > 0) {
    const earlier = after.problems.filter((problem) => !fresh.has(problem))
    if (earlier.length > 0) terminal.err(`Problems from before this change:\n${listed(earlier)}\n`)
    await refuseChange(made, fresh, terminal)
  }
  await tell(made, [before, after], { home, terminal })
}
