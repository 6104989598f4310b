import { constants } from 'node:fs'
import { access, open, stat } from 'node:fs/promises'
import { delimiter, isAbsolute, join, resolve } from 'node:path'
import { CommandError } from '../terminal.ts'

/** As shells have it: https://pubs.opengroup.org/onlinepubs/9799919799/utilities/V3_chap02.html#tag_19_08_02 */
const [NOT_EXECUTABLE, NOT_FOUND] = [126, 127]
const ELF = Buffer.from('\x7fELF', 'latin1')

const isFile = async (path: string): Promise<boolean> =>
  stat(path).then(
    (found) => found.isFile(),
    () => false,
  )
const isExecutable = async (path: string): Promise<boolean> =>
  access(path, constants.X_OK).then(
    () => true,
    () => false,
  )

/** Why the kernel would not run it; undefined when it would, or when that is unknown. A failed execve ends the process at once. */
const problemOf = async (path: string): Promise<string | undefined> => {
  if (!(await isExecutable(path))) return 'it is not executable'
  const file = await open(path, 'r').catch(() => undefined)
  if (file === undefined) return undefined
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(256), 0, 256, 0)
    const head = buffer.subarray(0, bytesRead)
    if (head.subarray(0, 4).equals(ELF)) return undefined
    const interpreter = /^#![ \t]*([^\s]+)/.exec(head.toString('latin1'))?.[1]
    if (interpreter === undefined) return 'it is neither a program nor a script that names its interpreter'
    return isAbsolute(interpreter) && (await isFile(interpreter)) && (await isExecutable(interpreter))
      ? undefined
      : `its interpreter ${interpreter} does not exist`
  } finally {
    await file.close()
  }
}

/** The file that a command stands for, looked for as execvp(3) does. @throws CommandError 127, 126 */
export const findProgram = async (
  command: string,
  around: { path: string | undefined; workingFolder: string },
): Promise<string> => {
  const candidates = command.includes('/')
    ? [resolve(around.workingFolder, command)]
    : (around.path ?? '/usr/local/bin:/usr/bin:/bin')
        .split(delimiter)
        .map((folder) => resolve(around.workingFolder, join(folder, command)))
  let refused: CommandError | undefined
  for (const candidate of command === '' ? [] : candidates) {
    if (!(await isFile(candidate))) continue
    const problem = await problemOf(candidate)
    if (problem === undefined) return candidate
    refused ??= new CommandError(
      NOT_EXECUTABLE,
      `The command ${candidate} cannot be run: ${problem}.`,
      `chmod +x ${candidate}, or name the program that runs it.`,
    )
  }
  throw (
    refused ??
    new CommandError(
      NOT_FOUND,
      `The command ${command} was not found.`,
      'Write its absolute path, or add its folder to PATH.',
    )
  )
}
