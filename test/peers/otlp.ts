/** The real receiver of OTLP of the OpenTelemetry collector, built from its Go modules, which writes the logs that it takes. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { freePort, stopProcess } from '../support/process.ts'
import { needPeer } from './programs.ts'

const SOURCE = join(import.meta.dirname, 'otlp-receiver')

export interface OtlpReceiver {
  /** Base of its URLs. */
  readonly url: string
  /** Each batch of logs that it has taken, as the collector writes it in the JSON of OTLP. */
  readonly batches: readonly string[]
  close(): Promise<void>
}

export const findOtlp = async (): Promise<boolean> => (await needPeer('otlp')) !== undefined

/** The first build takes a minute or two; Go keeps what it has built. */
export const startOtlpReceiver = async (): Promise<OtlpReceiver> => {
  const folder = await mkdtemp(join(tmpdir(), 'deputy-otlp-'))
  const program = join(folder, 'receiver')
  const build = spawn('go', ['build', '-o', program, '.'], {
    cwd: SOURCE,
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { ...process.env, GOTOOLCHAIN: 'local' },
  })
  const [code] = (await once(build, 'exit')) as [number]
  if (code !== 0) throw new Error(`the receiver of OTLP was not built (${code})`)
  const port = await freePort()
  const child = spawn(program, [`127.0.0.1:${port}`], { stdio: ['ignore', 'pipe', 'pipe'] })
  const batches: string[] = []
  createInterface(child.stdout).on('line', (line) => batches.push(line))
  const [ready] = (await Promise.race([once(createInterface(child.stderr), 'line'), once(child, 'exit')])) as [unknown]
  if (ready !== 'listening') throw new Error(`the receiver of OTLP does not listen: ${String(ready)}`)
  return {
    url: `http://127.0.0.1:${port}`,
    batches,
    async close() {
      await stopProcess(child, 'SIGKILL')
      await rm(folder, { recursive: true, force: true })
    },
  }
}
