import { setTimeout as sleep } from 'node:timers/promises'
import type { Child } from './child.ts'
import { fetchCredentials, isSame, keepValidTokens, mappedValues, type Credentials } from './credentials.ts'
import { formatFailure } from './failure.ts'
import type { Running } from './running.ts'
import type { Session } from './session.ts'

/** What renewal needs of the supervisor. */
export interface Supervised {
  readonly socketPath: string
  readonly server: string
  readonly notify: (text: string) => void
  /** The command that runs; undefined before the first one. */
  current(): Running | undefined
  isStopped(): boolean
  openCredentialSession(child: Child): Promise<Session>
  writeFiles(running: Running): Promise<unknown>
  /** Replaces the command by one with new credentials. @param fetched the session that fetched them; closed here */
  restart(running: Running, fetched: Session): Promise<void>
}

const MIN_RENEWAL_DELAY_MS = 500
/** The longest time that a timer takes. */
const MAX_TIMER_MS = 2 ** 31 - 1
const FIRST_RETRY_MS = 200
const MAX_RETRY_MS = 60_000
/** How long after its signal a command may still use the previous credentials (ms). */
const SIGNAL_GRACE_MS = 2000

/** Renews the command's credentials before they end and when the daemon says that one has changed, by `exec.renew`. */
export class Renewal {
  readonly #supervised: Supervised
  #timer: NodeJS.Timeout | undefined
  #isRunning = false
  /** Whether another renewal was requested while one was running. */
  #isRequested = false

  constructor(supervised: Supervised) {
    this.#supervised = supervised
  }

  /** Plans the renewal of the command's current credentials. */
  schedule({ credentials, lifeSession }: Running): void {
    clearTimeout(this.#timer)
    if (this.#supervised.isStopped() || credentials.size === 0 || lifeSession.start.mapping.renew === 'none') return
    const due = Math.min(...[...credentials.values()].map(({ renewAt }) => renewAt)) - performance.now()
    this.#timer = setTimeout(
      () => {
        this.request()
      },
      Math.min(MAX_TIMER_MS, Math.max(MIN_RENEWAL_DELAY_MS, due)),
    )
  }

  cancel(): void {
    clearTimeout(this.#timer)
  }

  /** Starts a renewal, or another one after the one that is running. @param reason shown where `renew: none` prevents it */
  request(reason?: string): void {
    const { notify, server } = this.#supervised
    const running = this.#supervised.current()
    if (this.#supervised.isStopped() || running === undefined) return
    if (running.lifeSession.start.mapping.renew === 'none') {
      if (reason !== undefined)
        notify(`${reason}; ${server} keeps the previous one until its next start (renew: none).`)
      return
    }
    if (this.#isRunning) {
      this.#isRequested = true
      return
    }
    this.#isRunning = true
    clearTimeout(this.#timer)
    void this.#renewUntilDone()
  }

  async #renewUntilDone(): Promise<void> {
    const { notify } = this.#supervised
    for (let pause = FIRST_RETRY_MS; !this.#supervised.isStopped(); pause = Math.min(MAX_RETRY_MS, pause * 2)) {
      try {
        this.#isRequested = false
        await this.#renewOnce()
        if (!this.#isRequested) break
      } catch (error) {
        if (this.#supervised.isStopped()) break
        if (pause === FIRST_RETRY_MS) notify(`Credential renewal failed; retrying: ${formatFailure(error)}`)
        await sleep(pause, undefined, { ref: false })
      }
    }
    this.#isRunning = false
    const running = this.#supervised.current()
    if (running !== undefined) this.schedule(running)
  }

  /** Fetches in a new session: the previous one stays open until the previous credentials are no longer in use. */
  async #renewOnce(): Promise<void> {
    const { socketPath, server } = this.#supervised
    const running = this.#supervised.current()!
    const { mapping } = running.lifeSession.start
    if (mappedValues(mapping).length === 0) return
    const session = await this.#supervised.openCredentialSession(running.child)
    let fetched: Credentials
    try {
      fetched = await fetchCredentials(socketPath, session, server)
    } catch (error) {
      session.close()
      throw error
    }
    if (this.#supervised.isStopped()) {
      session.close()
      return
    }
    const credentials = keepValidTokens(running.credentials, fetched, performance.now())
    const isNew = !isSame(credentials, running.credentials)
    if (isNew && mapping.renew === 'restart') await this.#supervised.restart(running, session)
    else await this.#replace(running, { session, credentials, isNew })
  }

  /** Gives the same process its new credentials, and signals it when they differ. */
  async #replace(
    running: Running,
    { session, credentials, isNew }: { session: Session; credentials: Credentials; isNew: boolean },
  ): Promise<void> {
    if (isNew)
      try {
        await this.#supervised.writeFiles({ ...running, credentials })
      } catch (error) {
        session.close()
        throw error
      }
    const previous = running.credentialSession
    running.credentialSession = session
    running.credentials = credentials
    if (isNew) {
      running.child.signal(running.lifeSession.start.mapping.signal)
      await sleep(SIGNAL_GRACE_MS, undefined, { ref: false })
    }
    previous?.close()
  }
}
