import { z } from 'zod'
import type { Random } from '#clock'
import { randomText, Secret } from '#foundation/crypto'

/** A secret that is a login: JSON with user name and password, as consumers get it. */
export interface LoginSecret {
  readonly username: string
  readonly password: string
}

const loginSchema = z.looseObject({ username: z.string().min(1).max(256), password: z.string().min(1).max(4096) })

/** @throws Error that does not say what is in it */
export const readLogin = (secret: Secret): LoginSecret => {
  let parsed
  try {
    parsed = loginSchema.safeParse(JSON.parse(secret.reveal()))
  } catch {
    parsed = undefined
  }
  if (parsed?.success !== true) throw new Error('the secret is not JSON with username and password')
  return parsed.data
}

export const loginText = ({ username, password }: LoginSecret): Secret =>
  new Secret(JSON.stringify({ username, password }))

/** 192 bits in letters and digits, - and _: a password that needs no quoting anywhere. */
export const newPassword = (random: Random): string => randomText(random, 24)
