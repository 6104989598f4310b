import { setTimeout as sleep } from 'node:timers/promises'
import { constants } from 'node:os'
import type { ExecMapping, ExecValue } from '#config'
import { Secret } from '#foundation/crypto'
import { CommandError, exit } from '../terminal.ts'
import { launch, type Child } from './child.ts'
import { childEnvironment, PROXY_CA, proxyEnvironment, valueOf } from './environment.ts'
import { openPrivateFiles, type PrivateFiles } from './private-files.ts'
import { findProgram } from './program-file.ts'
import { fetchCredential, openSession, type Fetched, type Session, type SessionEvent } from './session.ts'

export interface ExecOptions {
  readonly socketPath: string
  readonly server: string
  readonly command: readonly [string, ...string[]]
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly workingFolder: string
  /** How long the command may take to end (ms) before it is killed. */
  readonly stopTimeout: number
  /** How long the daemon may be away (ms). */
  readonly reconnectTimeout: number
  readonly allowDisk: boolean
  /** Whether the terminal itself sends SIGINT to the command. */
  readonly isTerminal: boolean
  /** Says something to people. Standard output is the command's alone. */
  readonly say: (text: string) => void
}

/** These end the command; the others are its own affair. */
const ENDING = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const
const PASSED = ['SIGUSR1', 'SIGUSR2', 'SIGQUIT'] as const
const SHORTEST = 500
const LONGEST = 2 ** 31 - 1
/** How long after its signal a command may still use what it had before (ms). */
const SETTLING = 2000
const FIRST_PAUSE = 200
const LONGEST_PAUSE = 60_000
const RECONNECT_PAUSE = 2000

/** A child with what it was given. The sessions in which that was got go on for as long as it may use it. */
interface Running {
  readonly child: Child
  /** By which the kernel knows it: of the child's whole life. */
  own: Session
  /** In which its credentials were got; undefined when it has none. */
  held: Session | undefined
  values: ReadonlyMap<string, Fetched>
}

const keyOf = ({ downstream, scopes }: Pick<ExecValue, 'downstream' | 'scopes'>): string =>
  JSON.stringify([downstream, scopes ?? null])
const wantedOf = ({ env, files }: ExecMapping): ExecValue[] => [
  ...new Map([...Object.values(env), ...Object.values(files)].map((value) => [keyOf(value), value])).values(),
]
const isSame = (left: ReadonlyMap<string, Fetched>, right: ReadonlyMap<string, Fetched>): boolean =>
  left.size === right.size &&
  [...left].every(([key, { credential }]) => right.get(key)?.credential.reveal() === credential.reveal())
/** What a child should have by now: the tokens that it has, while they are good, and the secrets that are in force. */
const inForce = (
  has: ReadonlyMap<string, Fetched>,
  given: ReadonlyMap<string, Fetched>,
  now: number,
): Map<string, Fetched> =>
  new Map(
    [...given].map(([key, fetched]) => {
      const known = has.get(key)
      return [key, known !== undefined && fetched.isToken && now < known.renewAt ? known : fetched]
    }),
  )
const wordsOf = (error: unknown): string =>
  error instanceof CommandError && error.next !== undefined
    ? `${error.message}\n  Next: ${error.next}`
    : (error as Error).message

/**
 * Runs a stdio server as it is, with the credentials that its file in the registry maps, for as long as both it and its
 * authority last. The daemon is told the server and the child's pid; what is run it is not told.
 * @returns the exit code of the command
 * @throws CommandError when it cannot begin
 */
export const runExec = async (options: ExecOptions): Promise<number> => {
  const { socketPath, server, command, say, stopTimeout } = options
  const file = await findProgram(command[0], {
    path: options.environment['PATH'],
    workingFolder: options.workingFolder,
  })

  const done = Promise.withResolvers<number>()
  let current: Running | undefined
  let files: PrivateFiles | undefined
  let over = false
  let renewing = false
  let again = false
  let timer: NodeJS.Timeout | undefined
  /** Children that are not the command yet, or not any more. */
  const others = new Set<Child>()

  const closeSessions = ({ own, held }: Pick<Running, 'own' | 'held'>): void => {
    own.close()
    held?.close()
  }
  const finish = (code: number): void => {
    over = true
    clearTimeout(timer)
    if (current !== undefined) closeSessions(current)
    for (const child of others) child.signal('SIGKILL')
    done.resolve(code)
  }
  /** Ends the command, and this with it. @param code with which, instead of its own */
  const stop = async (signal: NodeJS.Signals, code?: number): Promise<void> => {
    const was = over
    over = true
    // Of the terminal's own the command has had one already.
    const ended =
      current === undefined || was
        ? undefined
        : await current.child.stop(stopTimeout, signal === 'SIGINT' && options.isTerminal ? undefined : signal)
    if (!was) finish(code ?? ended ?? 128 + constants.signals[signal])
  }

  /** What was told of a child before it was the command. */
  const early = new Map<Child, (() => void)[]>()
  const about = (child: Child, act: (running: Running) => void): void => {
    if (current?.child === child) act(current)
    else
      early.get(child)?.push(() => {
        about(child, act)
      })
  }
  const adopt = (running: Running): void => {
    current = running
    const waiting = early.get(running.child) ?? []
    early.delete(running.child)
    for (const each of waiting) each()
  }

  const own = (child: Child, resume?: Secret): Promise<Session> =>
    openSession(
      socketPath,
      { server, pid: child.pid, ...(resume === undefined ? {} : { resume }) },
      {
        event(event) {
          about(child, () => {
            onEvent(event)
          })
        },
        gone() {
          about(child, reconnect)
        },
      },
    )
  /** What becomes of it is told by the child's own session. */
  const hold = (child: Child): Promise<Session> =>
    openSession(
      socketPath,
      { server, pid: child.pid },
      {
        event() {
          /* see own */
        },
        gone() {
          /* see own */
        },
      },
    )

  const onEvent = (event: SessionEvent): void => {
    if (event.event === 'changed') {
      renew(`the credential of ${event.downstream} has been replaced`)
      return
    }
    if (event.reason === 'draining') {
      reconnect(current!)
      return
    }
    // The child has ended; its exit says the rest.
    if (event.reason === undefined) return
    say(
      `${event.error_description ?? event.reason} The server is ended.${event.next === undefined ? '' : `\n  Next: ${event.next}`}`,
    )
    void stop('SIGTERM', exit.failed)
  }

  const fetchAll = async (session: Session): Promise<Map<string, Fetched>> =>
    new Map(
      await Promise.all(
        wantedOf(session.start.mapping).map(
          async (value) => [keyOf(value), await fetchCredential(socketPath, session, server, value)] as const,
        ),
      ),
    )

  /** A child that waits, with all that it shall be given. */
  const prepare = async (): Promise<Running> => {
    const child = await launch()
    others.add(child)
    early.set(child, [])
    const sessions: Session[] = []
    try {
      const mine = await own(child)
      sessions.push(mine)
      const held = wantedOf(mine.start.mapping).length === 0 ? undefined : await hold(child)
      if (held !== undefined) sessions.push(held)
      return { child, own: mine, held, values: held === undefined ? new Map() : await fetchAll(held) }
    } catch (error) {
      for (const session of sessions) session.close()
      child.signal('SIGKILL')
      others.delete(child)
      early.delete(child)
      throw error
    }
  }

  const privateFiles = async (): Promise<PrivateFiles> =>
    (files ??= await openPrivateFiles({
      runtimeFolder: options.environment['XDG_RUNTIME_DIR'],
      allowDisk: options.allowDisk,
    }))

  const writeFiles = async ({
    own: {
      start: { mapping },
    },
    values,
  }: Running): Promise<Record<string, string>> => {
    const wanted = Object.entries(mapping.files)
    if (wanted.length === 0) return {}
    const folder = await privateFiles()
    return Object.fromEntries(
      await Promise.all(
        wanted.map(
          async ([name, value]) =>
            [
              name,
              await folder.write(value.path, new Secret(valueOf(value, values.get(keyOf(value))!.credential))),
            ] as const,
        ),
      ),
    )
  }

  const environmentOf = async (running: Running): Promise<Record<string, string>> => {
    const {
      own: {
        start: { mapping, proxy, token },
      },
      values,
    } = running
    if (mapping.proxy && proxy === undefined)
      throw new CommandError(
        exit.configuration,
        `The file of ${server} says \`proxy: true\`, and this daemon has no injecting proxy.`,
        'Set it up in deputy.yaml, or take `proxy` out of `exec`.',
      )
    return childEnvironment(options.environment, {
      ...(mapping.socket ? { DEPUTY_SOCKET: socketPath } : {}),
      ...(proxy === undefined
        ? {}
        : proxyEnvironment(
            { url: proxy.url, ca: await (await privateFiles()).write(PROXY_CA, new Secret(proxy.ca)) },
            server,
            token,
          )),
      ...Object.fromEntries(
        Object.entries(mapping.env).map(([name, value]) => [
          name,
          valueOf(value, values.get(keyOf(value))!.credential),
        ]),
      ),
      ...(await writeFiles(running)),
    })
  }

  /** Makes it the command. */
  const release = async (running: Running): Promise<void> => {
    const environment = await environmentOf(running)
    if (over) {
      running.child.signal('SIGKILL')
      return
    }
    running.child.release({ file, args: [...command], environment })
    others.delete(running.child)
    schedule(running)
  }
  const attend = (running: Running): void => {
    void running.child.exited.then((code) => {
      if (current === running && !over) finish(code)
    })
  }

  const schedule = ({
    values,
    own: {
      start: { mapping },
    },
  }: Running): void => {
    clearTimeout(timer)
    if (over || values.size === 0 || mapping.renew === 'none') return
    const due = Math.min(...[...values.values()].map(({ renewAt }) => renewAt)) - performance.now()
    timer = setTimeout(
      () => {
        renew()
      },
      Math.min(LONGEST, Math.max(SHORTEST, due)),
    )
  }

  const renew = (why?: string): void => {
    const running = current
    if (over || running === undefined) return
    if (running.own.start.mapping.renew === 'none') {
      if (why !== undefined) say(`${why}; ${server} keeps the old one until it is started again (renew: none).`)
      return
    }
    if (renewing) {
      again = true
      return
    }
    renewing = true
    clearTimeout(timer)
    void (async () => {
      for (let pause = FIRST_PAUSE; !over; pause = Math.min(LONGEST_PAUSE, pause * 2)) {
        try {
          again = false
          await turnOver()
          if (!again) break
        } catch (error) {
          if (over) break
          if (pause === FIRST_PAUSE) say(`Credential renewal failed; retrying: ${wordsOf(error)}`)
          await sleep(pause, undefined, { ref: false })
        }
      }
      renewing = false
      if (current !== undefined) schedule(current)
    })()
  }

  /** Fetches anew, in a session of its own: until nobody uses the old credentials any more, theirs goes on. */
  const turnOver = async (): Promise<void> => {
    const running = current!
    const { mapping } = running.own.start
    if (wantedOf(mapping).length === 0) return
    const held = await hold(running.child)
    let values: Map<string, Fetched>
    try {
      values = await fetchAll(held)
    } catch (error) {
      held.close()
      throw error
    }
    if (over) {
      held.close()
      return
    }
    values = inForce(running.values, values, performance.now())
    if (isSame(values, running.values) || mapping.renew === 'signal') {
      const isNew = !isSame(values, running.values)
      if (isNew)
        try {
          await writeFiles({ ...running, values })
        } catch (error) {
          held.close()
          throw error
        }
      const before = running.held
      running.held = held
      running.values = values
      if (isNew) {
        running.child.signal(mapping.signal)
        await sleep(SETTLING, undefined, { ref: false })
      }
      before?.close()
      return
    }
    await restart(running, held)
  }

  const restart = async (running: Running, held: Session): Promise<void> => {
    let next: Running
    try {
      next = await prepare()
    } catch (error) {
      held.close()
      throw error
    }
    if (over || current !== running) {
      closeSessions(next)
      held.close()
      next.child.signal('SIGKILL')
      return
    }
    adopt(next)
    say(`The credentials of ${server} have been replaced: it is started again.`)
    others.add(running.child)
    await running.child.stop(stopTimeout, 'SIGTERM')
    others.delete(running.child)
    closeSessions(running)
    held.close()
    if (over) return
    try {
      await release(next)
    } catch (error) {
      say(wordsOf(error))
      await stop('SIGKILL', exit.failed)
      return
    }
    attend(next)
  }

  /** The daemon went away: its next one is told of the child again, which goes on all the while. */
  const reconnect = (running: Running): void => {
    say('The daemon has gone away; the server goes on while it is waited for.')
    void (async () => {
      const until = performance.now() + options.reconnectTimeout
      for (let pause = FIRST_PAUSE; !over && current === running; pause = Math.min(RECONNECT_PAUSE, pause * 1.5)) {
        try {
          const before = running.own.start
          running.own = await own(running.child, before.token)
          if (over) {
            running.own.close()
            return
          }
          if (running.own.start.tenant !== before.tenant || running.own.start.user !== before.user) {
            say('The Unix user has signed in as another user. The server is ended.')
            await stop('SIGTERM', exit.failed)
            return
          }
          say('Reconnected to Deputy.')
          renew()
          return
        } catch (error) {
          const isAway = !(error instanceof CommandError) || error.code === exit.unreachable
          if (over || current !== running) return
          if (!isAway || performance.now() + pause > until) {
            say(`${wordsOf(error)}\n  The server is ended.`)
            await stop('SIGTERM', isAway ? exit.unreachable : exit.failed)
            return
          }
          await sleep(pause, undefined, { ref: false })
        }
      }
    })()
  }

  const handlers: [NodeJS.Signals, () => void][] = [
    ...ENDING.map((signal): [NodeJS.Signals, () => void] => [
      signal,
      () => {
        if (!over) void stop(signal)
        else if (signal !== 'SIGINT' || !options.isTerminal) current?.child.signal(signal)
      },
    ]),
    ...PASSED.map((signal): [NodeJS.Signals, () => void] => [
      signal,
      () => {
        current?.child.signal(signal)
      },
    ]),
  ]
  for (const [signal, handler] of handlers) process.on(signal, handler)
  try {
    const first = await prepare().catch((error: unknown) => {
      if (over) return undefined
      throw error
    })
    if (first !== undefined && over) {
      closeSessions(first)
      first.child.signal('SIGKILL')
    } else if (first !== undefined) {
      adopt(first)
      if (first.own.start.warning !== undefined) say(`warning: ${first.own.start.warning}`)
      try {
        await release(first)
      } catch (error) {
        over = true
        first.child.signal('SIGKILL')
        closeSessions(first)
        throw error
      }
      attend(first)
    }
    return await done.promise
  } finally {
    for (const [signal, handler] of handlers) process.off(signal, handler)
    clearTimeout(timer)
    await files?.wipe()
  }
}
