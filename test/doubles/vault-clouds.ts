/**
 * The secrets engines of clouds in a Vault, and who can log in at those clouds at this moment. Each behaviour names its page below
 * https://developer.hashicorp.com/vault, or the file of the engine below https://github.com/hashicorp.
 */
import { randomBytes, randomUUID } from 'node:crypto'
import { fail, ok, type Answer, type Question } from './vault-answer.ts'

const ACCOUNT = 'arn:aws:iam::123456789012:role'
/** api-docs/secret/aws#create-update-role */
const AWS_ROLES: Readonly<
  Record<string, { readonly type: 'iam_user' | 'assumed_role' | 'federation_token'; readonly arns?: readonly string[] }>
> = {
  uploader: { type: 'iam_user' },
  deployer: { type: 'assumed_role', arns: [`${ACCOUNT}/deployer`] },
  several: { type: 'assumed_role', arns: [`${ACCOUNT}/staging`, `${ACCOUNT}/production`] },
  federated: { type: 'federation_token' },
}
/** `max_sts_ttl` of the roles (seconds). */
const MAX_STS = 7200
/** Rolesets and accounts, with their secret type: api-docs/secret/gcp#create-update-roleset */
const GCP: Readonly<Record<string, 'access_token' | 'service_account_key'>> = {
  'roleset/viewer': 'access_token',
  'roleset/exporter': 'service_account_key',
  'static-account/app': 'access_token',
  'static-account/batch': 'service_account_key',
  'impersonated-account/auditor': 'access_token',
}

export interface CloudEngines {
  /** What AWS takes, by access key. `session`: the name of the session; keys of a session work until they expire, whatever becomes of their lease. */
  readonly awsKeys: ReadonlyMap<
    string,
    { readonly secret: string; readonly arn?: string; readonly session?: string; readonly seconds?: number }
  >
  readonly gcpKeys: ReadonlySet<string>
  readonly azureSecrets: ReadonlyMap<string, string>
  answer(question: Question): Answer
}

export const createCloudEngines = ({
  now,
  leased,
}: {
  now: () => number
  leased: (path: string, role: string, given: { ttl?: number; renewable?: boolean; end: () => void }) => object
}): CloudEngines => {
  const awsKeys = new Map<string, { secret: string; arn?: string; session?: string; seconds?: number }>()
  const gcpKeys = new Set<string>()
  const azureSecrets = new Map<string, string>()

  /** api-docs/secret/aws#generate-credentials, and vault/builtin/logical/aws/path_user.go, secret_access_keys.go */
  const aws = ({ method, path, query, body }: Question): Answer => {
    const [, verb, name] = /^aws\/(creds|sts)\/([\w.@-]+)$/.exec(path) ?? []
    if (verb === undefined || name === undefined) return fail(404, 'unsupported path')
    if (method !== 'GET' && method !== 'POST') return fail(405)
    const role = AWS_ROLES[name]
    if (role === undefined) return fail(400, `Role "${name}" not found`)
    const given = (key: string): string | undefined =>
      method === 'GET' ? (query.get(key) ?? undefined) : (body[key] as string | undefined)
    const secret = randomBytes(30).toString('base64')
    if (role.type === 'iam_user') {
      const accessKey = `AKIA${randomBytes(8).toString('hex').toUpperCase()}`
      awsKeys.set(accessKey, { secret })
      return ok(
        { access_key: accessKey, secret_key: secret, security_token: null, session_token: null },
        leased(path, name, {
          end: () => {
            awsKeys.delete(accessKey)
          },
        }),
      )
    }
    const asked = /^(\d+)s$/.exec(given('ttl') ?? '3600s')?.[1]
    if (asked === undefined) return fail(400, 'Field validation failed: error converting input for field "ttl"')
    // Beyond the maximum it is the maximum; below what AWS gives, AWS refuses.
    const seconds = Math.min(MAX_STS, Number(asked))
    if (seconds < 900)
      return fail(
        400,
        `Error assuming role: ValidationError: 1 validation error detected: Value '${seconds}' at 'durationSeconds' failed to satisfy constraint: Member must have value greater than or equal to 900`,
      )
    const wished = given('role_arn')
    if (role.type === 'assumed_role' && wished === undefined && role.arns?.length !== 1)
      return fail(400, 'did not supply a role_arn parameter and unable to determine one')
    if (role.type === 'assumed_role' && wished !== undefined && role.arns?.includes(wished) !== true)
      return fail(400, `role_arn "${wished}" not in allowed role arns for Vault role "${name}"`)
    const accessKey = `ASIA${randomBytes(8).toString('hex').toUpperCase()}`
    const token = randomBytes(60).toString('base64')
    const isRole = role.type === 'assumed_role'
    awsKeys.set(accessKey, {
      secret,
      seconds,
      ...(isRole
        ? {
            arn: wished ?? role.arns![0]!,
            session: (given('role_session_name') ?? 'vault-deputy').replaceAll(/[^\w+=,.@-]/g, '_').slice(0, 64),
          }
        : {}),
    })
    // Not renewable; and to revoke the lease does not end the keys.
    return ok(
      {
        access_key: accessKey,
        secret_key: secret,
        security_token: token,
        session_token: token,
        ...(isRole ? { arn: wished ?? role.arns![0] } : {}),
      },
      leased(path, name, { ttl: seconds, renewable: false, end: () => undefined }),
    )
  }

  /** api-docs/secret/gcp#generate-secret-iam-service-account-creds-oauth2-access-token and the two after it, and vault-plugin-secrets-gcp/plugin/path_role_set_secrets.go */
  const gcp = ({ method, path }: Question): Answer => {
    const [, kind, name, what] =
      /^gcp\/(roleset|static-account|impersonated-account)\/([\w.-]+)\/(token|key)$/.exec(path) ?? []
    if (kind === undefined || name === undefined || (kind === 'impersonated-account' && what === 'key'))
      return fail(404, 'unsupported path')
    if (method !== 'GET' && method !== 'POST') return fail(405)
    const type = GCP[`${kind}/${name}`]
    if (type === undefined) return fail(400, `${kind} '${name}' does not exist`)
    if (what === 'token') {
      if (type !== 'access_token')
        return fail(400, `${kind} '${name}' cannot generate access token (has secret type ${type})`)
      const end = Math.floor(now() / 1000) + 3599
      // No lease: tokens are neither renewed nor revoked.
      return ok({ token: `ya29.c.${randomBytes(24).toString('hex')}`, expires_at_seconds: end, token_ttl: 3599 })
    }
    if (type !== 'service_account_key')
      return fail(400, `${kind} '${name}' cannot generate service account keys (has secret type ${type})`)
    const id = randomBytes(20).toString('hex')
    gcpKeys.add(id)
    const file = {
      type: 'service_account',
      project_id: 'acme-project',
      private_key_id: id,
      private_key: `-----BEGIN PRIVATE KEY-----\n${randomBytes(60).toString('base64')}\n-----END PRIVATE KEY-----\n`,
      client_email: `${name}@acme-project.iam.gserviceaccount.com`,
    }
    return ok(
      {
        private_key_data: Buffer.from(JSON.stringify(file)).toString('base64'),
        key_algorithm: 'KEY_ALG_RSA_2048',
        key_type: 'TYPE_GOOGLE_CREDENTIALS_FILE',
      },
      leased(path, name, {
        end: () => {
          gcpKeys.delete(id)
        },
      }),
    )
  }

  /** api-docs/secret/azure#generate-credentials, and vault-plugin-secrets-azure/path_service_principal.go */
  const azure = ({ method, path }: Question): Answer => {
    const name = /^azure\/creds\/([\w.-]+)$/.exec(path)?.[1]
    if (name === undefined) return fail(404, 'unsupported path')
    if (method !== 'GET') return fail(405)
    if (name !== 'contributor') return fail(400, `role '${name}' does not exist`)
    const [id, secret] = [randomUUID(), randomBytes(30).toString('base64url')]
    azureSecrets.set(id, secret)
    return ok(
      { client_id: id, client_secret: secret },
      leased(path, name, {
        end: () => {
          azureSecrets.delete(id)
        },
      }),
    )
  }

  return {
    awsKeys,
    gcpKeys,
    azureSecrets,
    answer: (question) =>
      question.path.startsWith('aws/')
        ? aws(question)
        : question.path.startsWith('gcp/')
          ? gcp(question)
          : azure(question),
  }
}
