/** Programs that no package of npm or Debian brings: installed once into a folder of the user's, such as a Python environment. */
import { existsSync } from 'node:fs'
import { homedir } from 'node:os'
import { delimiter, join } from 'node:path'

/** On the PATH, in the folder that DEPUTY_PEERS names, or in ~/.cache/deputy-peers; undefined, and said loudly, where there is none. */
export const findProgram = (name: string, howToInstall: string): string | undefined => {
  const folders = [
    ...(process.env['DEPUTY_PEERS'] ?? '').split(delimiter),
    join(homedir(), '.cache/deputy-peers/bin'),
    join(homedir(), '.cache/deputy-peers'),
    ...(process.env['PATH'] ?? '').split(delimiter),
  ].filter((folder) => folder !== '')
  const found = folders.map((folder) => join(folder, name)).find(existsSync)
  if (found === undefined) process.stderr.write(`\n*** SKIPPED: the tests that need ${name}. ${howToInstall} ***\n\n`)
  return found
}
