import type { LeaseOwner } from '#foundation/store'
import type { CredentialRequest } from '../connector.ts'

/** For whom what a request is answered with is kept as a lease. */
export const leaseOwnerOf = ({ principal, server, downstream }: CredentialRequest): LeaseOwner => ({
  tenant: principal.tenant,
  user: principal.kind === 'user' ? principal.user : null,
  server: server.server,
  downstream: downstream.downstream,
})
