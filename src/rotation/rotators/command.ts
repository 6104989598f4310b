import { spawn } from 'node:child_process'
import { z } from 'zod'
import type { Random } from '../../clock.ts'
import { Secret } from '../../crypto/secret.ts'
import type { Rotator } from '../rotator.ts'
import type { RotatedSecret } from '../../store/store.ts'
import { newPassword } from './login-secret.ts'

/** A program that deputy.yaml allows: no shell, nothing of Deputy's environment, and the secrets on standard input alone. */
export interface AllowedCommand { readonly program: string; readonly args: readonly string[]; readonly timeout: number }

/** Exit codes of the program: done or works; refused; all else is a failure. */
const [DONE, REFUSED] = [0, 10]
const OUTPUT = 65_536

const nextSchema = z.strictObject({ next: z.string().min(1).max(65_536) })

/**
 * `command`: a program of the security team's. It gets one JSON object on standard input, `{"step", "tenant", "secret",
 * "current", "next", "old"}`, and is asked for the steps `next` (prints `{"next": …}`, or nothing for a random one), `apply`,
 * `login` (exit code 10: refused) and `retire`; each may come again with the same values.
 */
export const createCommandRotator = (command: AllowedCommand, deps: { secret: RotatedSecret; keepsOld: boolean; random: Random }): Rotator => {
  const run = (step: string, values: Readonly<Record<string, Secret | undefined>>): Promise<{ code: number; output: string }> => new Promise((resolve, reject) => {
    const child = spawn(command.program, [...command.args], { shell: false, env: {}, stdio: ['pipe', 'pipe', 'ignore'], timeout: command.timeout, killSignal: 'SIGKILL' })
    let output = ''
    child.stdout.on('data', (chunk: Buffer) => { if (output.length < OUTPUT) output += chunk.toString('utf8') })
    child.on('error', (error) => { reject(new Error(`the program could not be started: ${(error as NodeJS.ErrnoException).code ?? 'failed'}`)) })
    child.on('close', (code, signal) => { if (code === null) reject(new Error(`the program was ended by ${signal ?? 'a signal'}`)); else resolve({ code, output }) })
    // It may end without having read everything.
    child.stdin.on('error', () => undefined)
    child.stdin.end(JSON.stringify({ step, tenant: deps.secret.tenant, secret: deps.secret.secret, ...Object.fromEntries(Object.entries(values).map(([name, value]) => [name, value?.reveal() ?? null])) }))
  })
  const done = async (step: string, values: Readonly<Record<string, Secret | undefined>>): Promise<string> => {
    const { code, output } = await run(step, values)
    if (code !== DONE) throw new Error(`the program ended the step ${step} with exit code ${code}`)
    return output
  }
  return {
    kind: 'command', target: command.program, keepsOld: deps.keepsOld,
    async next(current) {
      const output = (await done('next', { current })).trim()
      if (output === '') return new Secret(newPassword(deps.random))
      let parsed
      try { parsed = nextSchema.safeParse(JSON.parse(output)) } catch { parsed = undefined }
      if (parsed?.success !== true) throw new Error('the program did not answer the step next with {"next": …}')
      return new Secret(parsed.data.next)
    },
    async apply(current, next) { await done('apply', { current, next }) },
    async login(value) {
      const { code } = await run('login', { current: value })
      if (code === DONE) return 'works'
      if (code === REFUSED) return 'refused'
      throw new Error(`the program ended the step login with exit code ${code}`)
    },
    async retire(old, current) { await done('retire', { old, current }) },
  }
}
