import { createLru } from '#foundation/lru'
import * as openid from 'openid-client'
import { z } from 'zod'
import { answersSchema, type CurrentSnapshot, type Tenant } from '#config'
import type { ResolveSecret } from '#credentials/secret'
import { type DeputyError, refuse } from '#errors'
import { type Egress, struck } from '#foundation/outbound'
import { failureOf, plainly, wordsOf } from './failure.ts'
import { toStandardResponse, type AnswerFacts } from './dialect.ts'

const METADATA_TTL_MS = 3_600_000

/**
 * Deputy as the client (`sign_in`) at the identity provider of a tenant.
 * @throws DeputyError `connect_invalid`, `issuer_unreachable`, `issuer_not_understood`, `provider_refused`
 */
export type IdentityProviders = (tenant: Tenant) => Promise<openid.Configuration>

const comparisonSchema = z.object({ expected: z.string(), body: z.object({ issuer: z.string() }) })

/** What a failed request to an identity provider comes to: it was not reached, or it did not answer as an issuer of that name does. */
export const refusalOfIssuer = (issuer: string, thrown: unknown): DeputyError => {
  const error = plainly(thrown)
  const named = comparisonSchema.safeParse(error instanceof Error ? error.cause : undefined).data
  const failure = failureOf(error)
  const problem =
    named === undefined
      ? wordsOf(error).replace(/\.$/, '')
      : `its metadata names ${struck(named.body.issuer)}, the tenant's file ${issuer}`
  return failure === 'not_sent' || failure === 'lost'
    ? refuse('issuer_unreachable', { issuer, seconds: 5, problem }, error)
    : refuse('issuer_not_understood', { issuer, seconds: 5, problem }, error)
}

/** Identity providers answer as the standard says, or nearly so. */
const FACTS: AnswerFacts = {
  answers: answersSchema.parse({}),
  scope_separator: ' ',
  discovery: true,
  issuer: undefined,
}

/** The answers of token endpoints in the words of the standard; others as they are. */
const inStandardWords =
  (egress: Egress): Egress =>
  async (url, init) => {
    const response = await egress(url, init)
    const grantType = init?.body instanceof URLSearchParams ? init.body.get('grant_type') : null
    return grantType === null ? response : toStandardResponse(FACTS, response, await response.text(), { grantType })
  }

export const createIdentityProviders = (options: {
  snapshot: CurrentSnapshot
  egress: Egress
  resolveSecret: ResolveSecret
}): IdentityProviders => {
  const metadata = createLru<string, openid.ServerMetadata>({ max: 500, ttl: METADATA_TTL_MS })
  return async ({ tenant, sign_in: signIn }) => {
    if (signIn?.issuer === undefined)
      throw refuse('connect_invalid', {
        problem: `the tenant ${tenant} has no sign-in; an admin has to set sign_in in its file`,
      })
    const { issuer } = signIn
    const insecure = options.snapshot().settings.network.allow_loopback
    const secret =
      signIn.client_secret === undefined ? undefined : await options.resolveSecret(signIn.client_secret, tenant)
    const authentication = secret === undefined ? openid.None() : openid.ClientSecretBasic(secret.reveal())
    const fetch = inStandardWords(options.egress) as unknown as openid.CustomFetch
    let server = metadata.get(issuer)
    if (server === undefined) {
      const discovered = await openid
        .discovery(new URL(issuer), signIn.client_id, undefined, authentication, {
          execute: insecure ? [openid.allowInsecureRequests] : [],
          [openid.customFetch]: fetch,
        })
        .catch((error: unknown) => {
          throw refusalOfIssuer(issuer, error)
        })
      server = discovered.serverMetadata()
      metadata.set(issuer, server)
    }
    // Entra offers PKCE and does not list it. The nonce of the ID token binds the code as well; for a public client that is not enough
    // (RFC 9700 section 2.1.1).
    const methods = server.code_challenge_methods_supported ?? (secret === undefined ? [] : ['S256'])
    if (!methods.includes('S256'))
      throw refuse('provider_refused', { provider: issuer, problem: 'it does not offer PKCE with S256' })
    const configuration = new openid.Configuration(server, signIn.client_id, undefined, authentication)
    if (insecure) openid.allowInsecureRequests(configuration)
    configuration[openid.customFetch] = fetch
    return configuration
  }
}
