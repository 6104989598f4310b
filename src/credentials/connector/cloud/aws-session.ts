import { createHash } from 'node:crypto'
import { z } from 'zod'
import { type DownstreamOf, sessionPolicyText } from '#config'
import { refuse } from '#errors'
import { lengthPrefixed, Secret } from '#foundation/crypto'
import type { CredentialRequest } from '../connector.ts'

/** A session tag's value, by https://docs.aws.amazon.com/STS/latest/APIReference/API_Tag.html. */
const TAG = /^[\p{L}\p{Z}\p{N}_.:/=+\-@]{1,256}$/u
/** https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html: SourceIdentity; `RoleSessionName` has the same characters. */
const IDENTITY = /^(?!aws:)[\w+=,.@-]{2,64}$/

/** Keys as they are kept: those of a user have no session token. */
export const keysSchema = z.object({
  AccessKeyId: z.string().min(1),
  SecretAccessKey: z.string().min(1),
  SessionToken: z.string().min(1).optional(),
})

/**
 * Keys as AWS programs read them (https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-sourcing-external.html).
 * @param until when programs have to ask again (ms since the epoch)
 */
export const processCredentialOf = (
  { AccessKeyId, SecretAccessKey, SessionToken }: z.output<typeof keysSchema>,
  until: number,
): Secret =>
  new Secret(
    JSON.stringify({
      Version: 1,
      AccessKeyId,
      SecretAccessKey,
      SessionToken,
      Expiration: new Date(until).toISOString(),
    }),
  )

const plain = (text: string, length: number): string => text.replaceAll(/[^\w+=,.@-]/g, '-').slice(0, length)

const userOf = ({ principal }: CredentialRequest): string => (principal.kind === 'user' ? principal.user : '')

/** Says in CloudTrail who asked. Two principals never have the same one, however alike their names are: the end of it is a digest of them. */
export const sessionNameOf = (request: CredentialRequest): string => {
  const user = userOf(request)
  const digest = createHash('sha256')
    .update(lengthPrefixed(request.principal.tenant, request.principal.kind, request.server.server, user))
    .digest('hex')
    .slice(0, 16)
  return `${[plain(request.server.server, 20), ...(user === '' ? [] : [plain(user, 26)])].join('.')}-${digest}`
}

/**
 * Values that policies at AWS compare. A value that cannot be written unchanged is refused, because a changed one could be another user's.
 * @throws DeputyError `provider_refused`
 */
const compared = (what: string, form: RegExp, value: string, downstream: string): string => {
  if (!form.test(value))
    throw refuse('provider_refused', {
      provider: downstream,
      problem: `the name of the ${what} has characters, or a length, that AWS does not allow there`,
    })
  return value
}

export const tagsOf = (request: CredentialRequest): { readonly Key: string; readonly Value: string }[] => {
  const { tags, downstream } = request.downstream as DownstreamOf<'aws_sts'>
  const values = { tenant: request.principal.tenant, server: request.server.server, user: userOf(request) }
  // A server that asks for itself has no user.
  return tags
    .filter((Key) => values[Key] !== '')
    .map((Key) => ({ Key, Value: compared(Key, TAG, values[Key], downstream) }))
}

/** @throws DeputyError `provider_refused` */
export const sourceIdentityOf = (request: CredentialRequest): string | undefined => {
  const { source_identity: which, downstream } = request.downstream as DownstreamOf<'aws_sts'>
  if (which === 'none') return undefined
  const value = which === 'user' ? userOf(request) : request.server.server
  return compared(which, IDENTITY, value, downstream)
}

/**
 * The session policy that the scopes stand for: what is in none of them is denied there. Undefined where the file maps no scopes.
 * @throws DeputyError `scope_not_available` for a scope without statements, and for none at all, which would be the whole role
 */
export const sessionPolicyOf = ({ downstream, scopes, server }: CredentialRequest): string | undefined => {
  const { statements, downstream: id } = downstream as DownstreamOf<'aws_sts'>
  if (Object.keys(statements).length === 0) return undefined
  if (scopes.length === 0 || !scopes.every((scope) => Object.hasOwn(statements, scope)))
    throw refuse('scope_not_available', { scopes: scopes.join(' '), server: server.server, downstream: id })
  return sessionPolicyText(scopes.flatMap((scope) => statements[scope]!))
}
