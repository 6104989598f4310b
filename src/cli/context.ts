import type { Command } from 'commander'
import { adminSocket, findHome } from './home.ts'
import type { Terminal } from './terminal.ts'

/** What a command works with. Both functions are called when the command runs, because `--home` is known only then. */
export interface CommandContext {
  readonly terminal: Terminal
  /** The configuration folder that `--home`, the environment or the working folder names. */
  readonly home: () => string
  /** Path of the admin socket. @throws CommandError when the settings cannot be read */
  readonly socket: () => Promise<string>
}

export const createContext = (program: Command, terminal: Terminal): CommandContext => {
  const home = (): string => findHome(program.opts<{ home?: string }>().home, terminal)
  return { terminal, home, socket: () => adminSocket(home()) }
}
