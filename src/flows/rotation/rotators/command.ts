import { spawn } from 'node:child_process'
import type { Random } from '#clock'
import { NO_TEXT, secretText } from '#foundation/crypto'
import type { RotatedSecret } from '#foundation/store'
import type { ChoosingRotator } from '../rotator.ts'
import { revealed, rotatorOfSteps, type DoStep } from './steps.ts'

/** A program that deputy.yaml allows: no shell, nothing of Deputy's environment, and the secrets only on standard input. */
export interface AllowedCommand {
  readonly program: string
  readonly args: readonly string[]
  readonly timeout: number
}

/** Exit codes of the program: done or works; refused; all else is a failure. */
const [DONE, REFUSED] = [0, 10]
const MAX_OUTPUT_BYTES = 65_536

/**
 * `command`: a program of the security team's. It gets one JSON object on standard input, `{"step", "tenant", "secret",
 * "current", "next", "old"}`, with what the step is about.
 */
export const createCommandRotator = (
  command: AllowedCommand,
  deps: { secret: RotatedSecret; supportsDualSecrets: boolean; random: Random },
): ChoosingRotator => {
  const doStep: DoStep = (step, secrets) =>
    new Promise((resolve, reject) => {
      const child = spawn(command.program, [...command.args], {
        shell: false,
        env: {},
        stdio: ['pipe', 'pipe', 'ignore'],
        timeout: command.timeout,
        killSignal: 'SIGKILL',
      })
      const chunks: Buffer[] = []
      let size = 0
      child.stdout.on('data', (chunk: Buffer) => {
        if (size < MAX_OUTPUT_BYTES) chunks.push(chunk)
        size += chunk.length
      })
      child.on('error', (error) => {
        reject(new Error(`the program could not be started: ${(error as NodeJS.ErrnoException).code ?? 'failed'}`))
      })
      child.on('close', (code, signal) => {
        // The new secret is in it: what is no text would be kept as another one. Other steps answer nothing.
        const output = step === 'next' ? secretText(Buffer.concat(chunks)) : ''
        if (output === undefined) reject(new Error(`the answer of the program to the step ${step}: ${NO_TEXT}`))
        else if (code === DONE || code === REFUSED) resolve({ refused: code === REFUSED, output })
        else
          reject(
            new Error(
              code === null
                ? `the program was ended by ${signal ?? 'a signal'}`
                : `the program ended the step ${step} with exit code ${code}`,
            ),
          )
      })
      // It may end without having read everything.
      child.stdin.on('error', () => undefined)
      child.stdin.end(
        JSON.stringify({ step, tenant: deps.secret.tenant, secret: deps.secret.secret, ...revealed(secrets) }),
      )
    })
  return rotatorOfSteps(doStep, {
    kind: 'command',
    target: command.program,
    supportsDualSecrets: deps.supportsDualSecrets,
    random: deps.random,
  })
}
