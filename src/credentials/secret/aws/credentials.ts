import { defaultProvider } from '@aws-sdk/credential-provider-node'
import { z } from 'zod'
import { within } from '#foundation/async'
import { connectionProblem } from '#foundation/outbound'

/** Errors of this name are about the source of credentials, as are those of the SDK's own chain. */
export const CREDENTIALS_ERROR = 'CredentialsProviderError'

/** Whose credentials a client uses. */
export interface AwsAccount {
  readonly region: string
  /** Of the shared files of AWS; absent: whatever the standard chain of the SDK finds. */
  readonly profile?: string | undefined
  /** ARN of a role that they assume; absent: they are used as they are. */
  readonly role?: string | undefined
  readonly external_id?: string | undefined
}

type Credentials = Awaited<ReturnType<ReturnType<typeof defaultProvider>>>

/** @param problem what is known of it, for callers; the cause is for the log */
export class NoCredentials extends Error {
  readonly problem: string
  constructor(problem: string, cause?: unknown) {
    super(problem, { cause })
    this.name = CREDENTIALS_ERROR
    this.problem = problem
  }
}

/** Whatever the source, or a service that it asks, has said is about the source: it refuses nothing that Deputy asks for. */
const asSource =
  (problem: string) =>
  (error: unknown): never => {
    if (error instanceof NoCredentials) throw error
    const connection = connectionProblem(error)
    throw new NoCredentials(connection === undefined ? problem : `${problem}: ${connection}`, error)
  }

/** A profile that is named is the only source: with a wrong name the chain would fall back to the machine's own role. */
const sourceOf = async (region: string, profile: string | undefined): Promise<Credentials> => {
  const clientConfig = { region }
  if (profile === undefined) return defaultProvider({ clientConfig })()
  const { fromIni } = await import('@aws-sdk/credential-provider-ini')
  return fromIni({ profile, clientConfig })()
}

/**
 * The standard chain of the AWS SDK, or a profile, within a deadline: some of its sources have none, and a search that hangs would be
 * shared by all later ones. Each search begins anew; what was found is kept by the client until it expires.
 * @param timeout ms
 */
export const credentialsWithin =
  (timeout: number, region: string, profile?: string): (() => Promise<Credentials>) =>
  () =>
    within(
      timeout,
      sourceOf(region, profile),
      () => new NoCredentials('the source of credentials did not answer in time'),
    ).catch(
      asSource(
        profile === undefined
          ? 'the standard chain of the AWS SDK has found no credentials'
          : `the profile ${profile} gives no credentials`,
      ),
    )

/** Name of the session in CloudTrail. */
const SESSION = 'deputy'
const MAX_ATTEMPTS = 2

const assumedSchema = z.object({
  AccessKeyId: z.string().min(16),
  SecretAccessKey: z.string().min(1),
  SessionToken: z.string().min(1),
  Expiration: z.date(),
})

/**
 * Credentials of the role that an account names, or of the account itself. STS is asked when a client needs them: at first, and
 * five minutes before they expire (https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html).
 * @param timeout ms for the search, and for an attempt at STS
 * @param requestHandler how STS is asked
 */
export const accountCredentials = (
  { region, profile, role, external_id: externalId }: AwsAccount,
  timeout: number,
  requestHandler: object,
): (() => Promise<Credentials>) => {
  const source = credentialsWithin(timeout, region, profile)
  if (role === undefined) return source
  const assume = async (): Promise<Credentials> => {
    const { AssumeRoleCommand, STSClient } = await import('@aws-sdk/client-sts')
    const client = new STSClient({ region, credentials: source, requestHandler, maxAttempts: MAX_ATTEMPTS })
    try {
      const wish = { RoleArn: role, RoleSessionName: SESSION }
      const { Credentials: given } = await client.send(
        new AssumeRoleCommand({ ...wish, ...(externalId === undefined ? {} : { ExternalId: externalId }) }),
      )
      const { AccessKeyId, SecretAccessKey, SessionToken, Expiration } = assumedSchema.parse(given)
      return {
        accessKeyId: AccessKeyId,
        secretAccessKey: SecretAccessKey,
        sessionToken: SessionToken,
        expiration: Expiration,
      }
    } finally {
      client.destroy()
    }
  }
  return () =>
    within(timeout * MAX_ATTEMPTS, assume(), () => new NoCredentials('STS did not answer in time')).catch(
      asSource('its role could not be assumed'),
    )
}
