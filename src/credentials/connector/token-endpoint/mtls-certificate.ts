import type { Clock } from '#clock'
import { type DownstreamOf, engineQuestionOf } from '#config'
import { type LeasedSecrets, type Leases, present } from '#credentials/secret'
import { refuse } from '#errors'
import { SECRET_TOKEN_TYPE } from '#oauth'
import type { Connector, CredentialRequest } from '../connector.ts'
import { leaseOwnerOf } from '../vault/lease-owner.ts'

/** How long a certificate is good for where no file says it (ms). */
const DEFAULT_LIFETIME_MS = 3_600_000
/** ub-common-name of RFC 5280 appendix A.1. */
const MAX_NAME_LENGTH = 64
/** A user in a name: a text that could be read as another user's name is refused. */
const NAME = /^[A-Za-z0-9_@+-][A-Za-z0-9._@+-]*$/

/** @throws DeputyError `secret_backend_refused` where the user cannot stand in a name, `target_unknown` where there is none */
const commonNameOf = ({ principal, server, downstream }: CredentialRequest): string => {
  const { common_name: template, backend } = downstream as DownstreamOf<'mtls_certificate'>
  if (template.includes('{user}') && principal.kind !== 'user')
    throw refuse('target_unknown', { target: downstream.downstream, server: server.server })
  const user = principal.kind === 'user' ? principal.user : ''
  if (template.includes('{user}') && !NAME.test(user))
    throw refuse('secret_backend_refused', {
      backend,
      problem: 'the name of the user has characters that the common name of a certificate does not take here',
    })
  const name = template.replace(/\{(tenant|server|user)\}/g, (_, which: string) =>
    which === 'tenant' ? principal.tenant : which === 'server' ? server.server : user,
  )
  if (name.length > MAX_NAME_LENGTH)
    throw refuse('secret_backend_refused', {
      backend,
      problem: `the common name would be longer than ${MAX_NAME_LENGTH} characters`,
    })
  return name
}

/** Each part is encoded, so that none of them can be read as another. */
const uriOf = ({ principal, server, downstream }: CredentialRequest): string | undefined => {
  const { uri_prefix: prefix } = downstream as DownstreamOf<'mtls_certificate'>
  if (prefix === undefined) return undefined
  return [
    prefix.replace(/\/$/, ''),
    'tenant',
    principal.tenant,
    'server',
    server.server,
    ...(principal.kind === 'user' ? ['user', encodeURIComponent(principal.user)] : []),
  ].join('/')
}

/**
 * `mtls_certificate`: a client certificate that Vault issues for this user and server only, with its key, as JSON with `certificate`,
 * `private_key` and `ca_chain` (PEM). It is kept as a lease is, so that a revocation revokes it at Vault, by its serial number.
 */
export const createMtlsCertificateConnector = (options: {
  leases: Pick<Leases, 'obtain'>
  engineOf: (id: string) => LeasedSecrets | undefined
  clock: Clock
}): Connector => ({
  kind: 'mtls_certificate',
  async obtain(request) {
    const { backend, role, lifetime = DEFAULT_LIFETIME_MS } = request.downstream as DownstreamOf<'mtls_certificate'>
    const question = engineQuestionOf(request.downstream)!
    const wish = { name: commonNameOf(request), uri: uriOf(request), duration: lifetime }
    const { value, lease, expiresAt } = await options.leases.obtain(leaseOwnerOf(request), question, async () =>
      present(options.engineOf(question.backend), backend).make(role, wish),
    )
    return {
      token: value,
      issuedTokenType: SECRET_TOKEN_TYPE,
      tokenType: 'N_A',
      scopes: request.scopes,
      overScoped: false,
      grant: lease,
      expiresAt: Math.min(expiresAt, options.clock.now() + lifetime, request.notAfter),
      auditNote: `The backend ${backend} issued a certificate for ${wish.name} by the role ${role}, under the lease ${lease}.`,
    }
  },
})
