import { constants } from 'node:os'
import type { Secret } from '#foundation/crypto'
import { exit } from '../terminal.ts'
import { launch, type Child } from './child.ts'
import { fetchCredentials, mappedValues } from './credentials.ts'
import { CredentialDelivery } from './delivery.ts'
import { formatFailure } from './failure.ts'
import { reconnect } from './reconnect.ts'
import { Renewal } from './renewal.ts'
import { closeSessions, discard, type Running } from './running.ts'
import { openSession, type Session, type SessionEvent } from './session.ts'

export interface SupervisorOptions {
  readonly socketPath: string
  readonly server: string
  /** The program and its arguments, as the user wrote them. */
  readonly command: readonly [string, ...string[]]
  /** The environment of `deputy exec`. */
  readonly environment: Readonly<Record<string, string | undefined>>
  /** How long the command may take to end (ms) before it is killed. */
  readonly stopTimeout: number
  /** How long the daemon may be unreachable (ms). */
  readonly reconnectTimeout: number
  readonly allowDisk: boolean
  /** Whether the terminal itself sends SIGINT to the command. */
  readonly isTerminal: boolean
  /** Shows a message to people. Standard output belongs to the command. */
  readonly notify: (text: string) => void
}

/** Runs one command: prepares a child, makes it the command, replaces it when its credentials change, and ends with it. */
export class Supervisor {
  readonly #options: SupervisorOptions
  /** The file of the program. */
  readonly #file: string
  readonly #delivery: CredentialDelivery
  readonly #renewal: Renewal
  readonly #exitCode = Promise.withResolvers<number>()
  /** Children that are not the command yet, or not any more. */
  readonly #standby = new Set<Child>()
  /** Events of a child that is not the command yet. */
  readonly #pendingEvents = new Map<Child, (() => void)[]>()
  #current: Running | undefined
  #isStopped = false

  constructor(options: SupervisorOptions, file: string) {
    this.#options = options
    this.#file = file
    this.#delivery = new CredentialDelivery(options)
    this.#renewal = new Renewal({
      socketPath: options.socketPath,
      server: options.server,
      notify: options.notify,
      current: () => this.#current,
      isStopped: () => this.#isStopped,
      openCredentialSession: (child) => this.#openCredentialSession(child),
      writeFiles: (running) => this.#delivery.writeFiles(running),
      restart: (running, fetched) => this.#restart(running, fetched),
    })
  }

  /** Runs the command to its end. @returns its exit code. @throws CommandError when it cannot start */
  async run(): Promise<number> {
    const first = await this.#prepare().catch((error: unknown) => {
      if (this.#isStopped) return undefined
      throw error
    })
    if (first !== undefined && this.#isStopped) discard(first)
    else if (first !== undefined) await this.#start(first)
    return this.#exitCode.promise
  }

  /** A signal that ends the command; a second one is passed on. */
  terminate(signal: NodeJS.Signals): void {
    if (!this.#isStopped) void this.#stop(signal)
    else if (signal !== 'SIGINT' || !this.#options.isTerminal) this.forward(signal)
  }

  /** Passes a signal on to the command. */
  forward(signal: NodeJS.Signals): void {
    this.#current?.child.signal(signal)
  }

  /** Cancels renewals and removes files with credentials. */
  async close(): Promise<void> {
    this.#renewal.cancel()
    await this.#delivery.wipe()
  }

  #finish(code: number): void {
    this.#isStopped = true
    this.#renewal.cancel()
    if (this.#current !== undefined) closeSessions(this.#current)
    for (const child of this.#standby) child.signal('SIGKILL')
    this.#exitCode.resolve(code)
  }

  /** Ends the command, and the supervisor with it. @param code the exit code, instead of the command's own */
  async #stop(signal: NodeJS.Signals, code?: number): Promise<void> {
    if (this.#isStopped) return
    this.#isStopped = true
    // The terminal has sent its own signal to the command already.
    const toSend = signal === 'SIGINT' && this.#options.isTerminal ? undefined : signal
    const ended = await this.#current?.child.stop(this.#options.stopTimeout, toSend)
    this.#finish(code ?? ended ?? 128 + constants.signals[signal])
  }

  /** A child that waits, with all its credentials. @throws CommandError */
  async #prepare(): Promise<Running> {
    const { socketPath, server } = this.#options
    const child = await launch()
    this.#standby.add(child)
    this.#pendingEvents.set(child, [])
    const sessions: Session[] = []
    try {
      const lifeSession = await this.#openLifeSession(child)
      sessions.push(lifeSession)
      if (mappedValues(lifeSession.start.mapping).length === 0)
        return { child, lifeSession, credentialSession: undefined, credentials: new Map() }
      const credentialSession = await this.#openCredentialSession(child)
      sessions.push(credentialSession)
      const credentials = await fetchCredentials(socketPath, credentialSession, server)
      return { child, lifeSession, credentialSession, credentials }
    } catch (error) {
      for (const session of sessions) session.close()
      child.signal('SIGKILL')
      this.#standby.delete(child)
      this.#pendingEvents.delete(child)
      throw error
    }
  }

  async #start(first: Running): Promise<void> {
    this.#adopt(first)
    const { warning } = first.lifeSession.start
    if (warning !== undefined) this.#options.notify(`warning: ${warning}`)
    try {
      await this.#release(first)
    } catch (error) {
      this.#isStopped = true
      discard(first)
      throw error
    }
    this.#finishWith(first)
  }

  /** Makes it the current child, and handles the events that came for it before. */
  #adopt(running: Running): void {
    this.#current = running
    const pending = this.#pendingEvents.get(running.child) ?? []
    this.#pendingEvents.delete(running.child)
    for (const handle of pending) handle()
  }

  /** Lets the waiting child become the command. @throws CommandError */
  async #release(running: Running): Promise<void> {
    const environment = await this.#delivery.environmentFor(running)
    if (this.#isStopped) {
      running.child.signal('SIGKILL')
      return
    }
    running.child.release({ file: this.#file, args: [...this.#options.command], environment })
    this.#standby.delete(running.child)
    this.#renewal.schedule(running)
  }

  #finishWith(running: Running): void {
    void running.child.exited.then((code) => {
      if (this.#current === running && !this.#isStopped) this.#finish(code)
    })
  }

  /** Replaces the command. @param fetched the session that found new credentials; closed here */
  async #restart(running: Running, fetched: Session): Promise<void> {
    const { notify, server, stopTimeout } = this.#options
    let next: Running
    try {
      next = await this.#prepare()
    } catch (error) {
      fetched.close()
      throw error
    }
    if (this.#isStopped || this.#current !== running) {
      discard(next)
      fetched.close()
      return
    }
    this.#adopt(next)
    notify(`The credentials of ${server} have been replaced; restarting it.`)
    this.#standby.add(running.child)
    await running.child.stop(stopTimeout, 'SIGTERM')
    this.#standby.delete(running.child)
    closeSessions(running)
    fetched.close()
    if (this.#isStopped) return
    try {
      await this.#release(next)
    } catch (error) {
      notify(formatFailure(error))
      await this.#stop('SIGKILL', exit.failed)
      return
    }
    this.#finishWith(next)
  }

  #openLifeSession(child: Child, resume?: Secret): Promise<Session> {
    const { socketPath, server } = this.#options
    return openSession(
      socketPath,
      { server, pid: child.pid, ...(resume === undefined ? {} : { resume }) },
      {
        event: (event) => {
          this.#whenCurrent(child, () => {
            this.#onEvent(event)
          })
        },
        gone: () => {
          this.#whenCurrent(child, (running) => {
            this.#reconnect(running)
          })
        },
      },
    )
  }

  /** Its events are ignored: the child's life session has the same ones. */
  #openCredentialSession(child: Child): Promise<Session> {
    const { socketPath, server } = this.#options
    const ignore = (): void => undefined
    return openSession(socketPath, { server, pid: child.pid }, { event: ignore, gone: ignore })
  }

  /** Handles an event of a child: now when it is the command, else when it becomes it. */
  #whenCurrent(child: Child, handle: (running: Running) => void): void {
    if (this.#current?.child === child) handle(this.#current)
    else
      this.#pendingEvents.get(child)?.push(() => {
        this.#whenCurrent(child, handle)
      })
  }

  #onEvent(event: SessionEvent): void {
    if (event.event === 'changed') {
      this.#renewal.request(`the credential of ${event.downstream} has been replaced`)
      return
    }
    if (event.reason === 'draining') {
      this.#reconnect(this.#current!)
      return
    }
    // The child has ended; its exit code is handled where it is awaited.
    if (event.reason === undefined) return
    const next = event.next === undefined ? '' : `\n  Next: ${event.next}`
    this.#options.notify(`${event.error_description ?? event.reason} The server is ended.${next}`)
    void this.#stop('SIGTERM', exit.failed)
  }

  #reconnect(running: Running): void {
    void reconnect(running, {
      timeout: this.#options.reconnectTimeout,
      notify: this.#options.notify,
      isStopped: () => this.#isStopped,
      isCurrent: (other) => this.#current === other,
      resume: ({ child, lifeSession }) => this.#openLifeSession(child, lifeSession.start.token),
      stop: (code) => this.#stop('SIGTERM', code),
      renew: () => {
        this.#renewal.request()
      },
    })
  }
}
