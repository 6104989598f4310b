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

interface LoginOptions extends Output {
  readonly tenant: string
  readonly browser: boolean
  readonly device?: boolean
}

const loginSchema = z.looseObject({ url: z.string() })
const sessionSchema = z.looseObject({
  signed_in: z.boolean(),
  tenant: z.string().optional(),
  user: z.string().optional(),
  expires_at: z.number().optional(),
  device: z
    .looseObject({
      state: z.enum(['pending', 'done', 'refused']),
      error: z.looseObject({ message: z.string(), next: z.string() }).optional(),
    })
    .optional(),
})
const deviceSchema = z.looseObject({
  user_code: z.string(),
  verification_uri: z.string(),
  verification_uri_complete: z.string().optional(),
  expires_in: z.number(),
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

type Session = z.output<typeof sessionSchema>

const isSame = (session: Session, before: Session): boolean =>
  before.signed_in &&
  session.tenant === before.tenant &&
  session.user === before.user &&
  session.expires_at === before.expires_at

const showSession = (terminal: CommandContext['terminal'], options: Output, session: Session) => {
  print(
    terminal,
    options,
    session,
    () => `Signed in as ${session.user} of ${session.tenant} until ${shownTime(session.expires_at ?? 0)}.`,
  )
}

/** Shows the code, and waits until the daemon knows what the person has decided. */
const loginByDevice = async (path: string, options: LoginOptions, terminal: CommandContext['terminal']) => {
  const form = { tenant: options.tenant, device: 'true' }
  const begun = await callDaemon(path, { path: '/session', form }, deviceSchema)
  terminal.err(
    [
      `On any device, open ${begun.verification_uri} and type the code ${begun.user_code}`,
      ...(begun.verification_uri_complete === undefined ? [] : [`(or open ${begun.verification_uri_complete})`]),
      `Programs of this Unix user then act as the person who signs in there. Give the code to no other person.\n`,
    ].join('\n'),
  )
  for (const until = Date.now() + begun.expires_in * 1000; Date.now() < until; await sleep(POLL_INTERVAL_MS)) {
    const session = await callDaemon(path, { path: '/session' }, sessionSchema)
    if (session.device?.state === 'done' && session.signed_in) {
      showSession(terminal, options, session)
      return
    }
    const { error } = session.device ?? {}
    if (error !== undefined) throw new CommandError(exit.failed, error.message, error.next)
  }
  throw new CommandError(exit.failed, 'The code has expired.', `deputy login --tenant ${options.tenant} --device`)
}

/** `login`. */
const addLogin = (program: Command, { terminal, home }: CommandContext): void => {
  program
    .command('login')
    .description('sign in as a user of a tenant, so that stdio servers of this Unix user act on behalf of that user')
    .requiredOption('--tenant <id>', 'tenant of the user')
    .option('--no-browser', 'only print the URL')
    .option(
      '--device',
      "sign in on another device, with a code that the identity provider shows (the tenant's file allows it)",
    )
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExamples:\n  deputy login --tenant acme\n  deputy login --tenant acme --device')
    .action(async (options: LoginOptions) => {
      const path = await localSocket(home(), terminal)
      if (options.device === true) {
        await loginByDevice(path, options, terminal)
        return
      }
      const before = await callDaemon(path, { path: '/session' }, sessionSchema)
      const { url } = await callDaemon(path, { path: '/session', form: { tenant: options.tenant } }, loginSchema)
      terminal.err(`Open this page and sign in:\n  ${url}\n`)
      if (options.browser && terminal.isInteractive) openBrowser(url)
      for (const until = Date.now() + LOGIN_TIMEOUT_MS; Date.now() < until; await sleep(POLL_INTERVAL_MS)) {
        const session = await callDaemon(path, { path: '/session' }, sessionSchema)
        // The session of an earlier sign-in says nothing of this one.
        if (!session.signed_in || session.tenant !== options.tenant || isSame(session, before)) continue
        showSession(terminal, options, session)
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
