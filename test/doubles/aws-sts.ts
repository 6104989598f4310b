/**
 * AWS STS over its query protocol, strict about what its documentation says. Pages are below https://docs.aws.amazon.com.
 * - AssumeRole and GetSessionToken are signed (Signature Version 4, service `sts`), AssumeRoleWithWebIdentity is not (STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html);
 * - RoleSessionName and SourceIdentity have 2 to 64 of [\w+=,.@-]; DurationSeconds from 900 to the role's limit; GetSessionToken to 129600 and takes no policy (API_AssumeRole.html, API_GetSessionToken.html);
 * - a session policy is JSON of at most 2048 characters, and what it packs to has a limit: PackedPolicyTooLarge (API_AssumeRole.html#API_AssumeRole_Errors);
 * - tags: 50 at most, keys up to 128, values up to 256 of [\p{L}\p{Z}\p{N}_.:/=+\-@], transitive keys are among them (API_Tag.html); of a web identity they are in the claim
 *   `https://aws.amazon.com/tags` (IAM/latest/UserGuide/id_session-tags.html#id_session-tags_adding-assume-role-idp);
 * - the web identity's issuer and audience are those of the OIDC provider: InvalidIdentityToken; the role's trust policy decides by `sub`: AccessDenied.
 */
import { randomBytes, randomUUID } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createLocalJWKSet, jwtVerify, type JSONWebKeySet } from 'jose'
import type { SpoiltAnswer } from './spoilt.ts'
import { isSigned } from './signature-v4.ts'
import { answerSpoilt } from './spoilt.ts'

export interface StsDouble {
  readonly url: string
  readonly region: string
  readonly accessKeyId: string
  readonly secretAccessKey: string
  readonly role: string
  readonly spoil: SpoiltAnswer[]
  /** Requests that were answered with keys, as they came. */
  readonly requests: Readonly<Record<string, string>>[]
  readonly secrets: string[]
  /** What its OIDC provider is, for AssumeRoleWithWebIdentity. */
  trusted:
    | { readonly issuer: string; readonly audience: string; readonly keys: JSONWebKeySet; readonly subject: string }
    | undefined
  /** Of the last web identity that was accepted. */
  claims: object | undefined
  close(): Promise<void>
}

interface Refusal {
  readonly code: string
  readonly message: string
  readonly status?: number
}
const no = (code: string, message: string, status = 400): Refusal => ({ code, message, status })

const NAME = /^[\w+=,.@-]{2,64}$/
const TAG_VALUE = /^[\p{L}\p{Z}\p{N}_.:/=+\-@]{0,256}$/u
const ROLE_LIMIT = 7200

const PARAMETERS = {
  AssumeRole:
    /^(Action|Version|RoleArn|RoleSessionName|DurationSeconds|Policy|ExternalId|SourceIdentity|PolicyArns\.member\.\d+\.arn|Tags\.member\.\d+\.(Key|Value)|TransitiveTagKeys\.member\.\d+)$/,
  AssumeRoleWithWebIdentity:
    /^(Action|Version|RoleArn|RoleSessionName|DurationSeconds|Policy|WebIdentityToken|PolicyArns\.member\.\d+\.arn)$/,
  GetSessionToken: /^(Action|Version|DurationSeconds)$/,
} as const
const isAction = (action: string): action is keyof typeof PARAMETERS => Object.hasOwn(PARAMETERS, action)

export const startSts = async (): Promise<StsDouble> => {
  const session = (form: Readonly<Record<string, string>>): Refusal | undefined => {
    if (form['RoleArn'] !== double.role)
      return no(
        'AccessDenied',
        `User: arn:aws:iam::123456789012:user/deputy is not authorized to perform: sts:AssumeRole on resource: ${form['RoleArn']}`,
        403,
      )
    if (!NAME.test(form['RoleSessionName'] ?? ''))
      return no('ValidationError', "Value at 'roleSessionName' failed to satisfy constraint: [\\w+=,.@-]*")
    if (
      form['SourceIdentity'] !== undefined &&
      (!NAME.test(form['SourceIdentity']) || form['SourceIdentity'].startsWith('aws:'))
    )
      return no('ValidationError', "Value at 'sourceIdentity' failed to satisfy constraint")
    const policy = form['Policy']
    if (policy !== undefined) {
      if (policy.length > 2048)
        return no(
          'ValidationError',
          "Value at 'policy' failed to satisfy constraint: Member must have length less than or equal to 2048",
        )
      try {
        if ((JSON.parse(policy) as { Version?: string }).Version !== '2012-10-17') throw new Error('no version')
      } catch {
        return no('MalformedPolicyDocument', 'The policy is not in the valid JSON format.')
      }
      if (policy.length > 1500)
        return no(
          'PackedPolicyTooLarge',
          'Packed size of session tags and session policy consumes 117% of allotted space.',
        )
    }
    const tags = Object.entries(form)
      .filter(([name]) => /^Tags\.member\.\d+\.Key$/.test(name))
      .map(([name, key]) => [key, form[name.replace(/Key$/, 'Value')] ?? ''] as const)
    if (tags.length > 50 || tags.some(([key, value]) => key.length > 128 || !TAG_VALUE.test(value)))
      return no('ValidationError', "Value at 'tags' failed to satisfy constraint")
    const strange = Object.entries(form).find(
      ([name, key]) => name.startsWith('TransitiveTagKeys.') && !tags.some(([each]) => each === key),
    )
    return strange === undefined
      ? undefined
      : no('InvalidParameterValue', 'The specified transitive tag key must be included in the requested tags.')
  }

  const webIdentity = async (form: Readonly<Record<string, string>>): Promise<Refusal | undefined> => {
    const { trusted } = double
    if (trusted === undefined) return no('InvalidIdentityToken', 'No OpenIDConnect provider found in your account')
    try {
      const { payload } = await jwtVerify(form['WebIdentityToken'] ?? '', createLocalJWKSet(trusted.keys), {
        issuer: trusted.issuer,
        audience: trusted.audience,
        requiredClaims: ['exp', 'iat', 'sub'],
        algorithms: ['RS256', 'ES256'],
      })
      if (payload.sub !== trusted.subject)
        return no('AccessDenied', 'Not authorized to perform sts:AssumeRoleWithWebIdentity', 403)
      double.claims = payload
      return undefined
    } catch (error) {
      return no('InvalidIdentityToken', (error as Error).message)
    }
  }

  const judge = async (
    action: string,
    form: Readonly<Record<string, string>>,
    request: IncomingMessage,
    body: Buffer,
  ): Promise<Refusal | undefined> => {
    if (form['Version'] !== '2011-06-15' || !isAction(action))
      return no('InvalidAction', `Could not find operation ${action}`)
    if (
      action === 'AssumeRoleWithWebIdentity'
        ? request.headers.authorization !== undefined
        : !isSigned(
            { method: 'POST', path: '/', query: '', headers: request.headers, body },
            { ...double, service: 'sts' },
            [],
          )
    ) {
      return no(
        'SignatureDoesNotMatch',
        'The request signature we calculated does not match the signature you provided.',
        403,
      )
    }
    const unknown = Object.keys(form).find((name) => !PARAMETERS[action].test(name))
    if (unknown !== undefined) return no('ValidationError', `unknown parameter ${unknown}`)
    const seconds = Number(form['DurationSeconds'] ?? 3600)
    const limit = action === 'GetSessionToken' ? 129_600 : ROLE_LIMIT
    if (!(seconds >= 900))
      return no(
        'ValidationError',
        "Value at 'durationSeconds' failed to satisfy constraint: Member must have value greater than or equal to 900",
      )
    if (seconds > limit)
      return no('ValidationError', 'The requested DurationSeconds exceeds the MaxSessionDuration set for this role.')
    if (action === 'GetSessionToken') return undefined
    return session(form) ?? (action === 'AssumeRoleWithWebIdentity' ? webIdentity(form) : undefined)
  }

  const answer = async (request: IncomingMessage, body: Buffer, response: ServerResponse): Promise<void> => {
    const form = Object.fromEntries(new URLSearchParams(body.toString('utf8')))
    const action = form['Action'] ?? ''
    const refusal = await judge(action, form, request, body)
    if (refusal !== undefined) {
      response
        .writeHead(refusal.status!, { 'content-type': 'text/xml' })
        .end(
          `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>${refusal.code}</Code><Message>${refusal.message.replaceAll('&', '&amp;').replaceAll('<', '&lt;')}</Message></Error><RequestId>${randomUUID()}</RequestId></ErrorResponse>`,
        )
      return
    }
    double.requests.push(form)
    const [secret, token] = [randomBytes(30).toString('base64'), randomBytes(60).toString('base64')]
    double.secrets.push(secret, token)
    const xml = (end: string, withSecret: boolean): string =>
      `<${action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><${action}Result><Credentials><AccessKeyId>ASIA${randomBytes(8).toString('hex').toUpperCase()}</AccessKeyId>${withSecret ? `<SecretAccessKey>${secret}</SecretAccessKey>` : ''}<SessionToken>${token}</SessionToken><Expiration>${end}</Expiration></Credentials></${action}Result><ResponseMetadata><RequestId>${randomUUID()}</RequestId></ResponseMetadata></${action}Response>`
    const end = new Date(Date.now() + Number(form['DurationSeconds'] ?? 3600) * 1000).toISOString()
    answerSpoilt(response, double.spoil.shift(), {
      type: 'text/xml',
      status: 200,
      whole: xml(end, true),
      spoilt: {
        'error with 200': `<ErrorResponse><Error><Code>AccessDenied</Code><Message>${secret}</Message></Error></ErrorResponse>`,
        'no token': xml(end, false),
        expired: xml('2020-01-01T00:00:00Z', true),
      },
    })
  }

  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => {
      chunks.push(chunk)
    })
    request.on('end', () => {
      void answer(request, Buffer.concat(chunks), response)
    })
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  const double: StsDouble = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    region: 'eu-central-1',
    accessKeyId: 'AKIDEXAMPLE',
    secretAccessKey: randomBytes(20).toString('hex'),
    role: 'arn:aws:iam::123456789012:role/deputy/reports',
    spoil: [],
    requests: [],
    secrets: [],
    trusted: undefined,
    claims: undefined,
    close: () =>
      new Promise((resolve) => {
        server.close(() => {
          resolve()
        })
        server.closeAllConnections()
      }),
  }
  return double
}
