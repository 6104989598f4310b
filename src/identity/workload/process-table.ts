import { readFileSync } from 'node:fs'

/** What /proc says of a process (proc_pid_stat(5)): its parent, and when it began, in clock ticks since boot. */
export interface ProcessFacts {
  readonly pid: number
  readonly parent: number
  readonly startedAt: string
}

/** More generations than programs start each other in. */
const GENERATIONS = 32

/** The fields of /proc/PID/stat from the third on. The name in field 2 may hold spaces and parentheses, so they count from its end. */
export const parseStat = (text: string): readonly string[] => text.slice(text.lastIndexOf(')') + 2).split(' ')

/** Undefined when there is no such process, or /proc does not show it. Synchronous: /proc is memory, and each turn of the event loop is time in which a process can end. */
export const readProcess = (pid: number): ProcessFacts | undefined => {
  try {
    const fields = parseStat(readFileSync(`/proc/${pid}/stat`, 'utf8'))
    const [parent, startedAt] = [Number(fields[1]), fields[19]]
    // A zombie (Z, X) runs nothing any more.
    return startedAt === undefined || !Number.isInteger(parent) || fields[0] === 'Z' || fields[0] === 'X'
      ? undefined
      : { pid, parent, startedAt }
  } catch {
    return undefined
  }
}

/** The user as whom a process runs: undefined also where its real, effective, saved and file system uid differ (proc_pid_status(5)). */
export const userOf = (pid: number): number | undefined => {
  try {
    const uids = new Set(/^Uid:\t(.*)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]?.split('\t'))
    return uids.size === 1 ? Number([...uids][0]) : undefined
  } catch {
    return undefined
  }
}

export const isSameProcess = ({ pid, startedAt }: { readonly pid: number; readonly startedAt: string }): boolean =>
  readProcess(pid)?.startedAt === startedAt

/**
 * A process and those that it descends from, itself first. A parent counts only if the child still is the same process and
 * its child after the parent was read: else another process may have got the parent's pid in between (threat 2).
 */
export const ancestryOf = (of: { readonly pid: number; readonly startedAt: string }): ProcessFacts[] => {
  const line: ProcessFacts[] = []
  for (
    let next = readProcess(of.pid);
    next !== undefined && line.length < GENERATIONS;
    next = next.parent > 1 ? readProcess(next.parent) : undefined
  ) {
    const child = line.at(-1)
    if (child === undefined ? next.startedAt !== of.startedAt : !isSameLink(child)) break
    line.push(next)
  }
  return line
}

const isSameLink = (child: ProcessFacts): boolean => {
  const now = readProcess(child.pid)
  return now?.startedAt === child.startedAt && now.parent === child.parent
}
