import { defaultProvider } from '@aws-sdk/credential-provider-node'
import { within } from '#foundation/async'

/** Errors of this name are about the source of credentials, as are those of the SDK's own chain. */
export const CREDENTIALS_ERROR = 'CredentialsProviderError'

/**
 * The standard chain of the AWS SDK, within a deadline: some of its sources have none, and a search that hangs would be
 * shared by all later ones. Each search begins anew; what was found is kept by the client until it expires.
 * @param timeout ms
 */
export const credentialsWithin =
  (timeout: number, region: string): (() => ReturnType<ReturnType<typeof defaultProvider>>) =>
  () =>
    within(timeout, defaultProvider({ clientConfig: { region } })(), () => {
      const error = new Error('the source of credentials did not answer in time')
      error.name = CREDENTIALS_ERROR
      return error
    })
