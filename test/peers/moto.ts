/**
 * A real moto: AWS's services as a server on a loopback port, asked by the SDK unchanged.
 * 1. `findMoto()` says whether the machine has one; if not, loudly.
 * 2. `startMoto()` starts it, empty.
 */
import { spawn } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePort, stopProcess } from '../support/process.ts'
import { findProgram } from './programs.ts'

export const findMoto = (): string | undefined => findProgram('moto', 'moto_server')

export interface Moto {
  readonly url: string
  close(): Promise<void>
}

export const startMoto = async (program: string): Promise<Moto> => {
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const child = spawn(program, ['-H', '127.0.0.1', '-p', String(port)], { stdio: 'ignore' })
  const close = () => stopProcess(child, 'SIGKILL')
  for (let attempt = 0; ; attempt += 1) {
    try {
      await (await fetch(`${url}/moto-api/`)).body?.cancel()
      return { url, close }
    } catch (error) {
      if (attempt === 600) {
        await close()
        throw error
      }
      await sleep(50)
    }
  }
}
