import { createHash } from 'node:crypto'
import { z } from 'zod'
import { redirectUriProblem } from '#config'
import { refuse } from '#errors'

/** What a client may ask to be given tokens for. */
const GRANT_TYPES = ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'] as const

/** How clients that no file names may prove who they are at the token endpoint (OpenID Connect Core section 9). */
const AUTHENTICATIONS = {
  registered: ['none', 'client_secret_basic', 'client_secret_post'],
  document: ['none', 'private_key_jwt'],
} as const
const authenticationSchema = z.enum(['none', 'client_secret_basic', 'client_secret_post', 'private_key_jwt'])

const MAX_NAME = 100
const MAX_REDIRECT_URIS = 20
const MAX_KEYS = 20

/** What Deputy keeps of a client's metadata (RFC 7591 section 2). */
export const clientMetadataSchema = z.strictObject({
  name: z.string().optional(),
  redirectUris: z.array(z.string()),
  grantTypes: z.array(z.string()),
  authentication: authenticationSchema,
  jwks: z.strictObject({ keys: z.array(z.record(z.string(), z.unknown())) }).optional(),
  jwksUri: z.string().optional(),
  isBound: z.boolean(),
})
export type ClientMetadata = z.output<typeof clientMetadataSchema>

/**
 * What is read of what a client says of itself. All else is left out, `scope` above all: the scopes of a request say what it is for,
 * and a client that registered with few could never ask for more.
 */
const givenSchema = z.object({
  client_name: z.string().optional(),
  redirect_uris: z.array(z.string()).max(MAX_REDIRECT_URIS).default([]),
  grant_types: z.array(z.string()).max(20).default(['authorization_code', 'refresh_token']),
  token_endpoint_auth_method: z.string().default('none'),
  jwks: z.object({ keys: z.array(z.record(z.string(), z.unknown())).min(1).max(MAX_KEYS) }).optional(),
  jwks_uri: z.string().max(2000).optional(),
  dpop_bound_access_tokens: z.boolean().default(false),
})

const invalid = (problem: string) => refuse('client_metadata_invalid', { problem })

/** Members that some clients send for nothing. */
const isGiven = ([, value]: [string, unknown]): boolean => value !== null && value !== ''

const parse = (raw: unknown): z.output<typeof givenSchema> => {
  if (typeof raw !== 'object' || raw === null || Array.isArray(raw)) throw invalid('it is no JSON object')
  const parsed = givenSchema.safeParse(Object.fromEntries(Object.entries(raw).filter(isGiven)))
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  throw invalid(`${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'not as expected'}`)
}

/** A name as pages show it: on one line, without characters that turn the text round or cannot be seen. */
const shownName = (name: string | undefined): string | undefined => {
  const shown = name
    ?.replace(/\p{C}+/gu, ' ')
    .replace(/\s+/g, ' ')
    .trim()
    .slice(0, MAX_NAME)
  return shown === '' ? undefined : shown
}

const keysOf = ({
  jwks,
  jwks_uri: jwksUri,
}: z.output<typeof givenSchema>): Pick<ClientMetadata, 'jwks' | 'jwksUri'> => {
  if ((jwks === undefined) === (jwksUri === undefined)) throw invalid('private_key_jwt needs either jwks or jwks_uri')
  if (jwks?.keys.some((key) => 'd' in key || 'k' in key) === true) throw invalid('jwks has a private key')
  if (jwksUri !== undefined && URL.parse(jwksUri)?.protocol !== 'https:') throw invalid('jwks_uri is no https URL')
  return jwks === undefined ? { jwksUri: jwksUri! } : { jwks }
}

/**
 * Reads what a client says of itself, in its registration or in its document.
 * @param known which of the two
 * @param schemes private-use schemes without a period to which answers may go
 * @throws DeputyError `client_metadata_invalid`, `redirect_uri_invalid`
 */
export const readClientMetadata = (
  raw: unknown,
  known: 'registered' | 'document',
  schemes: readonly string[],
): ClientMetadata => {
  const given = parse(raw)
  const redirectUris = [...new Set(given.redirect_uris)]
  for (const uri of redirectUris) {
    const problem = redirectUriProblem(uri, schemes)
    if (problem !== undefined) throw refuse('redirect_uri_invalid', { uri: uri.slice(0, 200), problem })
  }
  const grantTypes = GRANT_TYPES.filter((each) => given.grant_types.includes(each))
  if (grantTypes.includes('authorization_code') && redirectUris.length === 0) throw invalid('it has no redirect_uris')
  if (!grantTypes.some((each) => each !== 'refresh_token'))
    throw invalid(`grant_types has none of ${GRANT_TYPES.join(', ')}`)
  const methods: readonly string[] = AUTHENTICATIONS[known]
  if (!methods.includes(given.token_endpoint_auth_method))
    throw invalid(`token_endpoint_auth_method has to be one of ${methods.join(', ')}`)
  const authentication = authenticationSchema.parse(given.token_endpoint_auth_method)
  const name = shownName(given.client_name)
  return {
    ...(name === undefined ? {} : { name }),
    redirectUris,
    grantTypes,
    authentication,
    ...(authentication === 'private_key_jwt' ? keysOf(given) : {}),
    isBound: given.dpop_bound_access_tokens,
  }
}

/** What users and administrators have relied on when they said yes to a client: its name, where answers go, how it proves itself. */
export const digestOf = ({ name, redirectUris, authentication, jwks, jwksUri }: ClientMetadata): string =>
  createHash('sha256')
    .update(JSON.stringify([name ?? null, redirectUris.toSorted(), authentication, jwks ?? null, jwksUri ?? null]))
    .digest('base64url')

/**
 * What has changed of that by which a client is told from others, in the words of its document: where answers go, and
 * how it proves itself. Its name is not among it.
 */
export const changedProofs = (was: ClientMetadata, is: ClientMetadata): string[] => {
  const facts = ({ redirectUris, authentication, jwks, jwksUri }: ClientMetadata) => ({
    redirect_uris: redirectUris.toSorted(),
    token_endpoint_auth_method: authentication,
    jwks: jwks ?? null,
    jwks_uri: jwksUri ?? null,
  })
  const [before, after] = [facts(was), facts(is)]
  return (Object.keys(before) as (keyof typeof before)[]).filter(
    (member) => JSON.stringify(before[member]) !== JSON.stringify(after[member]),
  )
}
