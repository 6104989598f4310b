/** Times of the AWS SDK, and what every client of it is made with. */
import { ConfiguredRetryStrategy } from '@smithy/core/retry'
import { within } from '#foundation/async'
import { accountCredentials, type AwsAccount } from './credentials.ts'

/** How many attempts' time a call may take with its retries and the search for credentials. */
const ATTEMPTS_TIME = 2

/**
 * The SDK's own handler only warns when a request takes longer than `requestTimeout`, unless it is configured to throw.
 * @param timeout ms for one attempt
 * @see https://docs.aws.amazon.com/sdk-for-javascript/v3/developer-guide/node-configuring-maxsockets.html
 */
export const handlerWithin = (timeout: number) => ({
  requestTimeout: timeout,
  connectionTimeout: timeout,
  throwOnRequestTimeout: true,
})

/** Where `withinDeadline` stands among a client's middleware: around everything, the search for credentials included. */
export const OUTERMOST = { step: 'initialize', priority: 'high', name: 'deadline' } as const

/**
 * One deadline over all attempts and over the credential chain, which has no timeout for some of its sources. What
 * has not answered by then is an outage, so that copies for outages are used.
 * @param timeout ms for one attempt
 */
export const withinDeadline = <T>(timeout: number, work: () => Promise<T>): Promise<T> =>
  within(timeout * ATTEMPTS_TIME, work(), () => {
    const error = new Error('AWS did not answer in time')
    error.name = 'TimeoutError'
    return error
  })

const MAX_ATTEMPTS = 3
const FIRST_PAUSE_MS = 200

/**
 * Attempts that end within the deadline, so that the error has AWS's own words. The SDK's own pauses after a throttled
 * request are longer, and its adaptive mode holds up the requests for all other secrets as well.
 */
const retries = () => new ConfiguredRetryStrategy(MAX_ATTEMPTS, (attempt) => FIRST_PAUSE_MS * 2 ** (attempt - 1))

/** What every client of a service is made with. @param options.timeout ms for one attempt, and for the search for credentials */
export const clientSettings = (options: AwsAccount & { endpoint?: string | undefined; timeout: number }) => ({
  region: options.region,
  ...(options.endpoint === undefined ? {} : { endpoint: options.endpoint }),
  credentials: accountCredentials(options, options.timeout, handlerWithin(options.timeout)),
  requestHandler: handlerWithin(options.timeout),
  retryStrategy: retries(),
})
