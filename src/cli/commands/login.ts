import { spawn } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Command } from 'commander'
import { z } from 'zod'
import type { CommandContext } from '../context.ts'
import { localSocket } from '../home.ts'
import { callDaemon } from '../socket-client.ts'
import { CommandError, exit, print, shownTime } from '../terminal.ts'

interface Output {
  json?: boolean
}

const loginSchema = z.looseObject({ url: z.string() })
const sessionSchema = z.looseObject({
  signed_in: z.boolean(),
  tenant: z.string().optional(),
  user: z.string().optional(),
  expires_at: z.number().optional(),
})

const LOGIN_TIMEOUT_MS = 300_000
const POLL_INTERVAL_MS = 1000

/** Opens a browser without a shell, for http(s) URLs alone (threat 5). Without one, the printed URL is enough. */
const openBrowser = (url: string): void => {
  const { protocol } = new URL(url)
  if (protocol !== 'https:' && protocol !== 'http:') return
  const child = spawn('xdg-open', [url], { stdio: 'ignore', detached: true, shell: false })
  child.on('error', () => {
    /* no browser on this machine */
  })
  child.unref()
}

/** `login`. */
const addLogin = (program: Command, { terminal, home }: CommandContext): void => {
  program
    .command('login')
    .description('sign in as a user of a tenant, so that stdio servers of this Unix user act on behalf of that user')
    .requiredOption('--tenant <id>', 'tenant of the user')
    .option('--no-browser', 'only print the URL')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy login --tenant acme')
    .action(async (options: Output & { tenant: string; browser: boolean }) => {
      const path = await localSocket(home(), terminal)
      const { url } = await callDaemon(path, { path: '/session', form: { tenant: options.tenant } }, loginSchema)
      terminal.err(`Open this page and sign in:\n  ${url}\n`)
      if (options.browser && terminal.isInteractive) openBrowser(url)
      for (const until = Date.now() + LOGIN_TIMEOUT_MS; Date.now() < until; await sleep(POLL_INTERVAL_MS)) {
        const session = await callDaemon(path, { path: '/session' }, sessionSchema)
        if (!session.signed_in || session.tenant !== options.tenant) continue
        print(
          terminal,
          options,
          session,
          () => `Signed in as ${session.user} of ${session.tenant} until ${shownTime(session.expires_at ?? 0)}.`,
        )
        return
      }
      throw new CommandError(
        exit.failed,
        'The user did not sign in within five minutes.',
        `deputy login --tenant ${options.tenant}`,
      )
    })
}

/** `logout`. */
const addLogout = (program: Command, { terminal, home }: CommandContext): void => {
  program
    .command('logout')
    .description('end the login session of this Unix user')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy logout')
    .action(async (options: Output) => {
      const session = await callDaemon(
        await localSocket(home(), terminal),
        { path: '/session', method: 'DELETE' },
        sessionSchema,
      )
      print(terminal, options, session, () => 'Signed out.')
    })
}

/** `login`, `logout`: the session of the Unix user. */
export const addLoginCommands = (program: Command, context: CommandContext): void => {
  addLogin(program, context)
  addLogout(program, context)
}
