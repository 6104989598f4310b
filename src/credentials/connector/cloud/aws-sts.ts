import {
  AssumeRoleCommand,
  AssumeRoleWithWebIdentityCommand,
  GetSessionTokenCommand,
  STSClient,
  STSServiceException,
} from '@aws-sdk/client-sts'
import { setTimeout as sleep } from 'node:timers/promises'
import { createLru } from '#foundation/lru'
import { ClientError } from 'openid-client'
import { z } from 'zod'
import type { Clock } from '#clock'
import { type DownstreamOf, ofTenant } from '#config'
import type { CallProvider } from '#credentials/provider'
import { CREDENTIALS_ERROR, credentialsWithin, type ResolveSecret } from '#credentials/secret'
import { DeputyError, refuse } from '#errors'
import type { Egress } from '#foundation/outbound'
import { SECRET_TOKEN_TYPE } from '#oauth'
import { awsHandler } from './aws-http.ts'
import {
  keysSchema,
  processCredentialOf,
  sessionNameOf,
  sessionPolicyOf,
  sourceIdentityOf,
  tagsOf,
} from './aws-session.ts'
import type { Connector, CredentialRequest } from '../connector.ts'
import type { AssertToCloud } from '../token-endpoint/federated-assertion.ts'
import { parseJson, refusalInWords, shownWords } from '../token-endpoint/ask.ts'

type Downstream = DownstreamOf<'aws_sts'>

/** Seconds: https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html, and API_GetSessionToken.html */
const SHORTEST = 900
const LONGEST = { assume_role: 43_200, web_identity: 43_200, session_token: 129_600 } as const
const UNSAID = 3600
/** Clients of the standard chain that are kept, so that what it has found is. */
const CLIENTS = 100

/** How long the search for credentials may take (ms), and the pause before STS is asked once more after a failure of its own. */
const SEARCH_MS = 5000
const PAUSE_MS = 200

/** https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html: names that say: not now, whatever the status. */
const NOT_NOW = /^(Throttling|ThrottlingException|RequestLimitExceeded|IDPCommunicationError)/

const credentialsSchema = z.object({
  AccessKeyId: z.string().min(16),
  SecretAccessKey: z.string().min(1),
  SessionToken: z.string().min(1),
  Expiration: z.date(),
})

/** As `openid-client` would tell it, so that it is judged as every call to a provider is. */
const asAnswer = (error: unknown): unknown => {
  // What could not be read may have keys in it, which the SDK's error holds: it goes no further.
  if (error instanceof Error && '$response' in error && !(error instanceof STSServiceException))
    return new ClientError('STS did not answer as documented', { cause: new Response(null, { status: 200 }) })
  if (!(error instanceof STSServiceException))
    return error instanceof Error && error.cause instanceof DeputyError ? error.cause : error
  const status = NOT_NOW.test(error.name) ? 429 : (error.$metadata.httpStatusCode ?? 500)
  return new ClientError('STS refused', { cause: new Response(null, { status: status === 200 ? 502 : status }) })
}

/** A failure of STS itself is tried again once: a session that no caller gets costs nothing. */
const again = async <T>(ask: () => Promise<T>): Promise<T> => {
  try {
    return await ask()
  } catch (error) {
    if (!(error instanceof STSServiceException) || (error.$metadata.httpStatusCode ?? 0) < 500) throw error
    await sleep(PAUSE_MS)
    return await ask()
  }
}

/**
 * `aws_sts`: temporary keys for a session whose policy holds it to the scopes that were asked, named and tagged after who asks
 * (https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_temp_request.html).
 */
export const createAwsStsConnector = (deps: {
  readonly egress: Egress
  readonly call: CallProvider
  readonly resolveSecret: ResolveSecret
  readonly assertToCloud: AssertToCloud
  readonly clock: Clock
}): Connector => {
  const requestHandler = awsHandler(deps.egress)
  const ofChain = createLru<string, STSClient>({
    max: CLIENTS,
    dispose: (client) => {
      client.destroy()
    },
  })

  const clientFor = async (downstream: Downstream, tenant: string): Promise<STSClient> => {
    const { region, endpoint, key } = downstream
    // Calls are repeated, or not, by the rules for every provider.
    const settings = { region, requestHandler, maxAttempts: 1, ...(endpoint === undefined ? {} : { endpoint }) }
    if (key !== undefined) {
      const parsed = keysSchema.safeParse(parseJson((await deps.resolveSecret(key, tenant)).reveal()))
      if (!parsed.success)
        throw refuse('provider_refused', {
          provider: downstream.downstream,
          problem: 'its key is no JSON with AccessKeyId and SecretAccessKey',
        })
      const { AccessKeyId: accessKeyId, SecretAccessKey: secretAccessKey, SessionToken: sessionToken } = parsed.data
      return new STSClient({
        ...settings,
        credentials: { accessKeyId, secretAccessKey, ...(sessionToken === undefined ? {} : { sessionToken }) },
      })
    }
    const name = `${region} ${endpoint ?? ''}`
    const known = ofChain.get(name)
    if (known !== undefined) return known
    const made = new STSClient({ ...settings, credentials: credentialsWithin(SEARCH_MS, region) })
    ofChain.set(name, made)
    return made
  }

  /** What is asked of STS, made once: a session policy is refused before anybody is asked. */
  const askFor = (
    request: CredentialRequest,
    seconds: number,
  ): ((client: STSClient) => Promise<{ Credentials?: unknown }>) => {
    const downstream = request.downstream as Downstream
    const { method, external_id: externalId, policy_arns: arns } = downstream
    if (method === 'session_token')
      return (client) => client.send(new GetSessionTokenCommand({ DurationSeconds: seconds }))
    const { tenant } = request.principal
    const role = ofTenant(downstream.roles, downstream.role, tenant)
    if (role === undefined)
      throw refuse('target_unknown', { target: downstream.downstream, server: request.server.server })
    const Policy = sessionPolicyOf(request)
    const tags = tagsOf(request)
    const keys = downstream.transitive_tags ? tags.map(({ Key }) => Key) : []
    const identity = sourceIdentityOf(request)
    const common = {
      RoleArn: role,
      RoleSessionName: sessionNameOf(request),
      DurationSeconds: seconds,
      ...(Policy === undefined ? {} : { Policy }),
      ...(arns.length === 0 ? {} : { PolicyArns: arns.map((arn) => ({ arn })) }),
    }
    if (method === 'web_identity') {
      // https://docs.aws.amazon.com/IAM/latest/UserGuide/id_session-tags.html#id_session-tags_adding-assume-role-idp
      const claims = {
        ...(tags.length === 0
          ? {}
          : {
              'https://aws.amazon.com/tags': {
                principal_tags: Object.fromEntries(tags.map(({ Key, Value }) => [Key, [Value]])),
                transitive_tag_keys: keys,
              },
            }),
        ...(identity === undefined ? {} : { 'https://aws.amazon.com/source_identity': identity }),
      }
      return (client) =>
        client.send(
          new AssumeRoleWithWebIdentityCommand({
            ...common,
            WebIdentityToken: deps.assertToCloud(request, {
              audience: downstream.audience,
              subject: downstream.subject,
              claims,
            }),
          }),
        )
    }
    return (client) =>
      client.send(
        new AssumeRoleCommand({
          ...common,
          ...(tags.length === 0 ? {} : { Tags: tags }),
          ...(keys.length === 0 ? {} : { TransitiveTagKeys: keys }),
          ...(identity === undefined ? {} : { SourceIdentity: identity }),
          ...(externalId === undefined ? {} : { ExternalId: externalId }),
        }),
      )
  }

  return {
    kind: 'aws_sts',
    async obtain(request) {
      const downstream = request.downstream as Downstream
      const { downstream: provider, method } = downstream
      const { tenant } = request.principal
      const before = deps.clock.now()
      const wished = Math.min(downstream.lifetime ?? UNSAID * 1000, request.notAfter - before) / 1000
      const ask = askFor(request, Math.max(SHORTEST, Math.min(LONGEST[method], Math.floor(wished))))
      const client = await clientFor(downstream, tenant)
      let said: string | undefined
      let answer: { Credentials?: unknown }
      try {
        answer = await deps.call({ provider, tenant, operation: 'temporary keys request' }, async () => {
          said = undefined
          try {
            return await again(() => ask(client))
          } catch (error) {
            if (
              error instanceof STSServiceException &&
              error.$metadata.httpStatusCode !== undefined &&
              error.$metadata.httpStatusCode < 500
            )
              said = shownWords(`${error.name}: ${error.message}`)
            if (error instanceof Error && error.name === CREDENTIALS_ERROR)
              throw refuse(
                'provider_unavailable',
                {
                  provider,
                  problem: "the standard chain of the AWS SDK has found no credentials; the daemon's log has its words",
                  seconds: 5,
                },
                error,
              )
            throw asAnswer(error)
          }
        })
      } catch (error) {
        throw refusalInWords(provider, error, deps.clock.now(), said)
      } finally {
        if (downstream.key !== undefined) client.destroy()
      }
      const parsed = credentialsSchema.safeParse(answer.Credentials)
      if (!parsed.success)
        throw refuse('provider_refused', { provider, problem: 'its answer is not what its documentation says' })
      const { Expiration, AccessKeyId, SecretAccessKey, SessionToken } = parsed.data
      const now = deps.clock.now()
      if (!(Expiration.getTime() > now))
        throw refuse('provider_refused', { provider, problem: 'it issued keys that have expired' })
      const expiresAt = Math.min(Expiration.getTime(), now + (downstream.lifetime ?? Infinity), request.notAfter)
      return {
        token: processCredentialOf({ AccessKeyId, SecretAccessKey, SessionToken }, expiresAt),
        issuedTokenType: SECRET_TOKEN_TYPE,
        tokenType: 'N_A',
        scopes: request.scopes,
        overScoped: false,
        expiresAt,
        auditNote: `STS issued the keys ${AccessKeyId}${method === 'session_token' ? '' : ` for the session ${sessionNameOf(request)}`}.`,
      }
    },
  }
}
