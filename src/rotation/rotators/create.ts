import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { Random } from '../../clock.ts'
import type { RotationPolicy } from '../../config/rotation-policy.ts'
import type { Settings } from '../../config/settings.ts'
import { refuse } from '../../errors.ts'
import type { ResolveSecret } from '../../secret/reference.ts'
import type { RotatedSecret } from '../../store/store.ts'
import type { Rotator } from '../rotator.ts'
import { createCommandRotator } from './command.ts'
import { createPostgresRotator } from './postgres.ts'
import { createRedisRotator } from './redis.ts'

/** How long a target may take to answer (ms). */
const TIMEOUT = 5000

/** Makes the rotator of a policy for one of its secrets. */
export const createRotators = (deps: { readonly home: string; readonly settings: () => Settings; readonly resolveSecret: ResolveSecret; readonly random: Random }) => {
  const tlsOf = (tls: boolean | { ca: string }): (() => Promise<boolean | { ca: string }>) => async () => typeof tls === 'boolean' ? tls : { ca: await readFile(resolve(deps.home, tls.ca), 'utf8') }
  return ({ how }: RotationPolicy, secret: RotatedSecret): Rotator => {
    const { random } = deps
    switch (how.rotator) {
      case 'postgres': return createPostgresRotator(how, { admin: () => deps.resolveSecret(how.admin, secret.tenant), tls: tlsOf(how.tls), random, timeout: TIMEOUT })
      case 'redis': return createRedisRotator(how, { admin: () => deps.resolveSecret(how.admin, secret.tenant), tls: tlsOf(how.tls), random, timeout: TIMEOUT })
      case 'command': {
        const command = deps.settings().rotation.commands[how.command]
        if (command === undefined) throw refuse('rotation_not_possible', { problem: `deputy.yaml allows no command ${how.command}` })
        return createCommandRotator(command, { secret, keepsOld: how.keeps_old, random })
      }
    }
  }
}
