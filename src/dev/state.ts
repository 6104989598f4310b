/** What a world is made of apart from its configuration: ports, keys and secrets, in `dev/state.json` of its folder. */
import { randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { JWK } from 'oidc-provider'
import { z } from 'zod'
import { replaceFile } from '#foundation/files'
import { newSigningKey } from './openid-server.ts'

const portSchema = z.int().min(1).max(65_535)
const portsSchema = z.object({
  idp: portSchema,
  service: portSchema,
  deputy: portSchema,
  tools: portSchema,
  server: portSchema,
})
/** `deputy`: sign-in and connect pages; `tools`: servers that Deputy hosts; `server`: the author's server or the example. */
export type Ports = z.output<typeof portsSchema>
export const PORT_NAMES = ['idp', 'service', 'deputy', 'tools', 'server'] as const

const keySchema = z.looseObject({ kty: z.literal('EC') })
const stateSchema = z.object({
  ports: portsSchema,
  /** The address of the author's server. */
  resource: z.string(),
  keys: z.object({ idp: keySchema, service: keySchema }),
  secrets: z.object({ signIn: z.string(), service: z.string(), token: z.string(), cookies: z.string() }),
  /** Digests of the files as `deputy dev` wrote them, by their path in the folder. */
  files: z.record(z.string(), z.string()),
})
export interface State {
  ports: Ports
  resource: string
  readonly keys: { readonly idp: JWK; readonly service: JWK }
  readonly secrets: z.output<typeof stateSchema>['secrets']
  files: Record<string, string>
}

/** The folder of what belongs to the world and not to Deputy. */
export const DEV_FOLDER = 'dev'
const statePath = (home: string): string => join(home, DEV_FOLDER, 'state.json')

/** @returns undefined when the folder holds no world */
export const readState = async (home: string): Promise<State | undefined> => {
  try {
    return stateSchema.parse(JSON.parse(await readFile(statePath(home), 'utf8'))) as State
  } catch {
    return undefined
  }
}

export const writeState = (home: string, state: State): Promise<void> =>
  replaceFile(statePath(home), `${JSON.stringify(state, null, 2)}\n`)

const secret = (): string => randomBytes(24).toString('base64url')

/** The state of a new world. */
export const newState = (ports: Ports, resource: string): State => ({
  ports,
  resource,
  keys: { idp: newSigningKey(), service: newSigningKey() },
  secrets: { signIn: secret(), service: secret(), token: secret(), cookies: secret() },
  files: {},
})
