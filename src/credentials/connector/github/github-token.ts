import { createHash } from 'node:crypto'
import { ClientError } from 'openid-client'
import type { CallProvider } from '#credentials/provider'
import type { LeaseSource } from '#credentials/secret'
import type { Secret } from '#foundation/crypto'
import type { Egress } from '#foundation/outbound'

/** Of every request to GitHub's API. */
export const headersFor = (bearer: string): Readonly<Record<string, string>> => ({
  Accept: 'application/vnd.github+json',
  Authorization: `Bearer ${bearer}`,
  'User-Agent': 'deputy',
  'X-GitHub-Api-Version': '2022-11-28',
})

/**
 * What GitHub's audit log calls a token (`hashed_token`), so that no other name of it is written down
 * (https://docs.github.com/en/organizations/keeping-your-organization-secure/managing-security-settings-for-your-organization/identifying-audit-log-events-performed-by-an-access-token).
 */
export const hashedToken = (token: Secret): string => createHash('sha256').update(token.reveal()).digest('base64')

/**
 * Installation tokens as leases of the API that issued them: they are ended there and nowhere else, whatever files say by then
 * (https://docs.github.com/en/rest/apps/installations#revoke-an-installation-access-token), and are not renewed. Undefined for what is no API.
 */
export const createGitHubTokens =
  (deps: { readonly egress: Egress; readonly call: CallProvider }) =>
  (api: string): LeaseSource | undefined =>
    /^https?:\/\//.test(api)
      ? {
          endsByCredential: true,
          endsByItself: true,
          renew: () => Promise.resolve(undefined),
          async end(_, { tenant, downstream, open }) {
            const token = await open()
            await deps.call({ provider: downstream, tenant, operation: 'installation token revocation' }, async () => {
              const response = await deps.egress(`${api}/installation/token`, {
                method: 'DELETE',
                headers: headersFor(token.reveal()),
              })
              await response.text()
              // A token that has ended cannot end itself: 401.
              if (response.status !== 204 && response.status !== 401)
                throw new ClientError(`GitHub answered ${response.status}`, { cause: response })
            })
          },
        }
      : undefined
