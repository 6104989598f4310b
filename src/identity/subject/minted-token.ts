import { z } from 'zod'
import type { Clock } from '#clock'
import type { Secret } from '#foundation/crypto'
import type { SigningKeys } from '#foundation/keys'

const headerSchema = z.object({ alg: z.literal('ES256'), typ: z.literal('at+jwt'), kid: z.string() })

const claimsSchema = z.object({
  iss: z.string(),
  sub: z.string(),
  aud: z.union([z.string().transform((audience) => [audience]), z.array(z.string())]),
  client_id: z.string(),
  tenant: z.string(),
  scope: z.string().optional(),
  iat: z.number(),
  exp: z.number(),
  jti: z.string(),
  act: z.looseObject({ sub: z.string() }).optional(),
  cnf: z.looseObject({}).optional(),
  anc: z.array(z.string()).default([]),
  /** RFC 9396 section 9.1; the server for which the token is enforces them. */
  authorization_details: z.array(z.looseObject({ type: z.string() })).optional(),
  /** `sub` is an agent, not a user. */
  agent: z.literal(true).optional(),
  /** The sign-in at an MCP client. */
  sid: z.string().optional(),
})

/** The claims of a token that Deputy minted. */
export type MintedClaims = z.output<typeof claimsSchema>

/** Reads a minted token: undefined for whatever Deputy did not sign, or what has expired. */
export type ReadMintedToken = (token: Secret) => MintedClaims | undefined

const parseJson = (part: string): unknown => {
  try {
    return JSON.parse(Buffer.from(part, 'base64url').toString('utf8'))
  } catch {
    return undefined
  }
}

export const createMintedTokenReader =
  (options: { keys: SigningKeys; issuer: () => string; clock: Clock }): ReadMintedToken =>
  (token) => {
    const [header, payload, signature, more] = token.reveal().split('.')
    if (header === undefined || payload === undefined || signature === undefined || more !== undefined) return undefined
    const parsedHeader = headerSchema.safeParse(parseJson(header))
    if (!parsedHeader.success) return undefined
    const signed = options.keys.verify(
      'token',
      parsedHeader.data.kid,
      Buffer.from(`${header}.${payload}`),
      Buffer.from(signature, 'base64url'),
    )
    if (!signed) return undefined
    const claims = claimsSchema.safeParse(parseJson(payload))
    if (!claims.success || claims.data.iss !== options.issuer() || claims.data.exp * 1000 <= options.clock.now())
      return undefined
    return claims.data
  }
