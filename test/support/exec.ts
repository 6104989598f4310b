/** `deputy exec` as a process, with what its command says. */
import { spawn, type ChildProcess } from 'node:child_process'
import { join } from 'node:path'
import { expect } from 'vitest'
import { createSealedSessions } from '../../src/flows/connect/sealed-sessions.ts'
import { silentLogger } from '../../src/foundation/telemetry/logger.ts'
import type { Daemon } from './daemon.ts'
import { openState } from './grants.ts'
import { CLI } from './process.ts'

export const PROBE = join(import.meta.dirname, '../exec/probe.mjs')

export interface Told {
  readonly pid: number
  readonly environment: Record<string, string>
  readonly argv: string[]
  readonly sockets: number
  readonly file?: string
  readonly signal?: string
  readonly asked?: { status: number; reason?: string; scope?: string }
}

export interface Running {
  readonly process: ChildProcess
  readonly err: () => string
  readonly out: () => string
  /** The line that its command writes next. */
  next(): Promise<Told>
  write(line: string): void
  /** Exit code of `deputy exec`, or the signal that ended it. */
  readonly exited: Promise<number | NodeJS.Signals>
}

export const startExec = (home: string, args: readonly string[], environment: NodeJS.ProcessEnv = {}): Running => {
  const child = spawn(process.execPath, [CLI, 'exec', '--home', home, ...args], {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...process.env, ...environment },
  })
  let [out, err, read] = ['', '', 0]
  child.stdout.on('data', (chunk: Buffer) => {
    out += chunk.toString('utf8')
  })
  child.stderr.on('data', (chunk: Buffer) => {
    err += chunk.toString('utf8')
  })
  const exited = new Promise<number | NodeJS.Signals>((resolve) => {
    child.once('exit', (code, signal) => {
      resolve(code ?? signal!)
    })
  })
  return {
    process: child,
    exited,
    err: () => err,
    out: () => out,
    write(line) {
      child.stdin.write(`${line}\n`)
    },
    async next() {
      await expect
        .poll(() => out.indexOf('\n', read), {
          interval: 20,
          message: `no line; standard error: ${err}`,
        })
        .toBeGreaterThanOrEqual(0)
      const end = out.indexOf('\n', read)
      const line = out.slice(read, end)
      read = end + 1
      return JSON.parse(line) as Told
    },
  }
}

/** Signs the Unix user of this process in, as `deputy login` would, while the daemon does not run. */
export const signIn = async (
  daemon: Pick<Daemon, 'home'>,
  { tenant, user, issuer, lifetime = 3_600_000 }: { tenant: string; user: string; issuer: string; lifetime?: number },
): Promise<void> => {
  const { store, envelope } = await openState(daemon.home)
  const sessions = createSealedSessions({
    store: store.sessions,
    envelope,
    node: store.audit.node,
    logger: silentLogger,
  })
  const now = Date.now()
  try {
    await sessions.put({
      uid: process.getuid!(),
      tenant,
      user,
      issuer,
      groups: ['engineering'],
      claims: {},
      signedInAt: now,
      expiresAt: now + lifetime,
    })
  } finally {
    await store.close()
  }
}
