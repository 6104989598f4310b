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
import type { Connector, Credential, CredentialRequest } from '../connector.ts'
import type { AssertToCloud } from '../token-endpoint/federated-assertion.ts'
import { parseJson, refusalInWords, shownWords } from '../token-endpoint/ask.ts'

type Downstream = DownstreamOf<'aws_sts'>

/** Seconds: https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html, and API_GetSessionToken.html */
const MIN_LIFE_S = 900
const MAX_LIFE_S = { assume_role: 43_200, web_identity: 43_200, session_token: 129_600 } as const
const DEFAULT_S = 3600
/** Clients of the standard chain in memory, with the credentials that each has found. */
const MAX_CLIENTS = 100

/** How long the search for credentials may take (ms), and the pause before STS is asked once more after a failure of its own. */
const SEARCH_MS = 5000
const PAUSE_MS = 200

/** https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html: error names that mean a rate limit, whatever the status. */
const NOT_NOW = /^(Throttling|ThrottlingException|RequestLimitExceeded|IDPCommunicationError)/

const credentialsSchema = z.object({
  AccessKeyId: z.string().min(16),
  SecretAccessKey: z.string().min(1),
  SessionToken: z.string().min(1),
  Expiration: z.date(),
})

/** The error in the form of `openid-client`, so that it is classified as every call to a provider is. */
const asAnswer = (error: unknown): unknown => {
  // An unreadable answer may contain keys, and the SDK's error holds it: that error is not passed on.
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

interface AwsStsDependencies {
  readonly egress: Egress
  readonly call: CallProvider
  readonly resolveSecret: ResolveSecret
  readonly assertToCloud: AssertToCloud
  readonly clock: Clock
}

/** Sends one request to STS. */
type SendToSts = (client: STSClient) => Promise<{ Credentials?: unknown }>

/**
 * `aws_sts`: temporary keys for a session whose policy limits it to the scopes that were asked, named and tagged after the caller
 * (https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_temp_request.html).
 */
export const createAwsStsConnector = (deps: AwsStsDependencies): Connector => {
  const clientFor = createClients(deps)
  return {
    kind: 'aws_sts',
    async obtain(request) {
      const downstream = request.downstream as Downstream
      const before = deps.clock.now()
      const wanted = Math.min(downstream.lifetime ?? DEFAULT_S * 1000, request.notAfter - before) / 1000
      const seconds = Math.max(MIN_LIFE_S, Math.min(MAX_LIFE_S[downstream.method], Math.floor(wanted)))
      const send = requestFor(deps, request, seconds)
      const client = await clientFor(downstream, request.principal.tenant)
      try {
        return toCredential(request, await askSts(deps, request, () => send(client)), deps.clock.now())
      } finally {
        if (downstream.key !== undefined) client.destroy()
      }
    },
  }
}

/** The client for a downstream: with its key, or with the credentials of the standard chain. */
const createClients = (deps: AwsStsDependencies) => {
  const requestHandler = awsHandler(deps.egress)
  const ofChain = createLru<string, STSClient>({
    max: MAX_CLIENTS,
    dispose: (client) => {
      client.destroy()
    },
  })
  return async (downstream: Downstream, tenant: string): Promise<STSClient> => {
    const { region, endpoint, key } = downstream
    // Calls are repeated, or not, by the rules for every provider.
    const settings = { region, requestHandler, maxAttempts: 1, ...(endpoint === undefined ? {} : { endpoint }) }
    if (key !== undefined) {
      const text = await deps.resolveSecret(key, tenant)
      return new STSClient({ ...settings, credentials: keysIn(text.reveal(), downstream.downstream) })
    }
    const name = `${region} ${endpoint ?? ''}`
    const known = ofChain.get(name)
    if (known !== undefined) return known
    const made = new STSClient({ ...settings, credentials: credentialsWithin(SEARCH_MS, region) })
    ofChain.set(name, made)
    return made
  }
}

/** @throws DeputyError `provider_refused` */
const keysIn = (text: string, provider: string) => {
  const parsed = keysSchema.safeParse(parseJson(text))
  if (!parsed.success)
    throw refuse('provider_refused', {
      provider,
      problem: 'its key is no JSON with AccessKeyId and SecretAccessKey',
    })
  const { AccessKeyId: accessKeyId, SecretAccessKey: secretAccessKey, SessionToken: sessionToken } = parsed.data
  return { accessKeyId, secretAccessKey, ...(sessionToken === undefined ? {} : { sessionToken }) }
}

/** The request to STS. Built before it is sent: an invalid session policy is refused without a request. */
const requestFor = (deps: AwsStsDependencies, request: CredentialRequest, seconds: number): SendToSts => {
  const downstream = request.downstream as Downstream
  const { method, external_id: externalId, policy_arns: arns } = downstream
  if (method === 'session_token')
    return (client) => client.send(new GetSessionTokenCommand({ DurationSeconds: seconds }))
  const role = ofTenant(downstream.roles, downstream.role, request.principal.tenant)
  if (role === undefined)
    throw refuse('target_unknown', { target: downstream.downstream, server: request.server.server })
  const Policy = sessionPolicyOf(request)
  const common = {
    RoleArn: role,
    RoleSessionName: sessionNameOf(request),
    DurationSeconds: seconds,
    ...(Policy === undefined ? {} : { Policy }),
    ...(arns.length === 0 ? {} : { PolicyArns: arns.map((arn) => ({ arn })) }),
  }
  const marks = marksOf(request)
  if (method === 'web_identity') {
    const { audience, subject } = downstream
    const claims = claimsFor(marks)
    return (client) =>
      client.send(
        new AssumeRoleWithWebIdentityCommand({
          ...common,
          WebIdentityToken: deps.assertToCloud(request, { audience, subject, claims }),
        }),
      )
  }
  const { tags, transitive, identity } = marks
  return (client) =>
    client.send(
      new AssumeRoleCommand({
        ...common,
        ...(tags.length === 0 ? {} : { Tags: tags }),
        ...(transitive.length === 0 ? {} : { TransitiveTagKeys: transitive }),
        ...(identity === undefined ? {} : { SourceIdentity: identity }),
        ...(externalId === undefined ? {} : { ExternalId: externalId }),
      }),
    )
}

/** Tags and identity by which AWS knows the caller. */
const marksOf = (request: CredentialRequest) => {
  const tags = tagsOf(request)
  const { transitive_tags: isTransitive } = request.downstream as Downstream
  return { tags, transitive: isTransitive ? tags.map(({ Key }) => Key) : [], identity: sourceIdentityOf(request) }
}

/** https://docs.aws.amazon.com/IAM/latest/UserGuide/id_session-tags.html#id_session-tags_adding-assume-role-idp */
const claimsFor = ({ tags, transitive, identity }: ReturnType<typeof marksOf>) => ({
  ...(tags.length === 0
    ? {}
    : {
        'https://aws.amazon.com/tags': {
          principal_tags: Object.fromEntries(tags.map(({ Key, Value }) => [Key, [Value]])),
          transitive_tag_keys: transitive,
        },
      }),
  ...(identity === undefined ? {} : { 'https://aws.amazon.com/source_identity': identity }),
})

/** @throws DeputyError of the category provider, with the words of STS */
const askSts = async (
  deps: AwsStsDependencies,
  request: CredentialRequest,
  send: () => Promise<{ Credentials?: unknown }>,
): Promise<{ Credentials?: unknown }> => {
  const { downstream: provider } = request.downstream
  const { tenant } = request.principal
  let words: string | undefined
  try {
    return await deps.call({ provider, tenant, operation: 'temporary keys request' }, async () => {
      words = undefined
      try {
        return await again(send)
      } catch (error) {
        if (
          error instanceof STSServiceException &&
          error.$metadata.httpStatusCode !== undefined &&
          error.$metadata.httpStatusCode < 500
        )
          words = shownWords(`${error.name}: ${error.message}`)
        if (error instanceof Error && error.name === CREDENTIALS_ERROR) throw noCredentials(provider, error)
        throw asAnswer(error)
      }
    })
  } catch (error) {
    throw refusalInWords(provider, error, deps.clock.now(), words)
  }
}

const noCredentials = (provider: string, error: Error): DeputyError =>
  refuse(
    'provider_unavailable',
    {
      provider,
      problem: "the standard chain of the AWS SDK has found no credentials; the daemon's log has its words",
      seconds: 5,
    },
    error,
  )

/** @throws DeputyError `provider_refused` */
const toCredential = (request: CredentialRequest, answer: { Credentials?: unknown }, now: number): Credential => {
  const { downstream: provider, lifetime = Infinity, method } = request.downstream as Downstream
  const parsed = credentialsSchema.safeParse(answer.Credentials)
  if (!parsed.success)
    throw refuse('provider_refused', { provider, problem: 'its answer is not what its documentation says' })
  const { Expiration, AccessKeyId, SecretAccessKey, SessionToken } = parsed.data
  if (!(Expiration.getTime() > now))
    throw refuse('provider_refused', { provider, problem: 'it issued keys that have expired' })
  const expiresAt = Math.min(Expiration.getTime(), now + lifetime, request.notAfter)
  return {
    token: processCredentialOf({ AccessKeyId, SecretAccessKey, SessionToken }, expiresAt),
    issuedTokenType: SECRET_TOKEN_TYPE,
    tokenType: 'N_A',
    scopes: request.scopes,
    overScoped: false,
    expiresAt,
    auditNote: `STS issued the keys ${AccessKeyId}${method === 'session_token' ? '' : ` for the session ${sessionNameOf(request)}`}.`,
  }
}
