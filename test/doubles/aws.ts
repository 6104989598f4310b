/**
 * AWS as its documentation describes it: Secrets Manager and KMS over the JSON protocol, every request with a Signature
 * Version 4 that is verified. Pages are below https://docs.aws.amazon.com.
 */
import { createCipheriv, createDecipheriv, randomBytes, randomUUID } from 'node:crypto'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { isSigned } from './signature-v4.ts'

interface Version {
  readonly id: string
  readonly text: string | undefined
  readonly binary?: string
  stages: Set<string>
}
interface StoredSecret {
  readonly versions: Version[]
  deleted: boolean
  isRotated?: boolean
}
interface Answer {
  readonly status: number
  readonly body: object
}
type Body = Readonly<Record<string, unknown>>

const ok = (body: object): Answer => ({ status: 200, body })
/** secretsmanager/latest/apireference/CommonErrors.html */
const fail = (type: string, message: string, status = 400): Answer => ({ status, body: { __type: type, message } })

export interface AwsDouble {
  readonly url: string
  readonly region: string
  readonly accessKeyId: string
  readonly secretAccessKey: string
  /** Answers of the next requests. `drop`: acts, then closes without an answer. */
  readonly spoil: (Answer | 'drop' | 'pass')[]
  readonly asked: string[]
  /** What other writers do just before the next request of an operation is answered; each once. */
  readonly meanwhile: { readonly operation: string; readonly act: () => void }[]
  /** Operations that the caller's policy does not allow. */
  readonly denied: Set<string>
  put(name: string, text: string): void
  putBinary(name: string): void
  remove(name: string): void
  markForDeletion(name: string): void
  /** AWS rotates it itself from now on (API_RotateSecret.html). */
  rotateByAws(name: string): void
  /** What is current. */
  textOf(name: string): string | undefined
  stagesOf(name: string): Record<string, string[]>
  readonly keyId: string
  /** Aliases of KMS keys (kms/latest/developerguide/alias-about.html): `alias/NAME` to the id of a key. */
  readonly aliases: Map<string, string>
  /** Another KMS key. @returns its id */
  addKey(): string
  /** A key in another state cannot be used (kms/latest/developerguide/key-state.html). */
  setKeyState(keyId: string, state: 'Enabled' | 'Disabled' | 'PendingDeletion'): void
  close(): Promise<void>
}

const ACCOUNT = '123456789012'

export const startAwsDouble = async (): Promise<AwsDouble> => {
  const secrets = new Map<string, StoredSecret>()
  const kmsKeys = new Map<string, { readonly bytes: Buffer; state: 'Enabled' | 'Disabled' | 'PendingDeletion' }>()
  const notFound = fail('ResourceNotFoundException', "Secrets Manager can't find the specified secret.")

  /** Gives a version a label, and takes it from the one that had it; AWSPREVIOUS follows AWSCURRENT. */
  const label = ({ versions }: StoredSecret, stage: string, version: Version): void => {
    const holder = versions.find(({ stages }) => stages.has(stage))
    if (holder === version) return
    holder?.stages.delete(stage)
    version.stages.add(stage)
    if (stage === 'AWSCURRENT' && holder !== undefined) {
      for (const each of versions) each.stages.delete('AWSPREVIOUS')
      holder.stages.add('AWSPREVIOUS')
    }
  }

  /** By name, or by ARN with or without the six characters at its end (userguide/troubleshoot.html#ARN_secretnamehyphen). */
  const secretOf = (id: string): StoredSecret | undefined => {
    const name = id.replace(`arn:aws:secretsmanager:${double.region}:${ACCOUNT}:secret:`, '')
    return secrets.get(name) ?? (name === id ? undefined : secrets.get(name.replace(/-[A-Za-z0-9]{6}$/, '')))
  }

  const operations: Readonly<Record<string, (body: Body, secret: StoredSecret | undefined) => Answer>> = {
    /** secretsmanager/latest/apireference/API_GetSecretValue.html */
    GetSecretValue({ SecretId: name, VersionStage: stage = 'AWSCURRENT', VersionId: id }, secret) {
      if (secret === undefined) return notFound
      if (secret.deleted)
        return fail(
          'InvalidRequestException',
          "You can't perform this operation on the secret because it was marked for deletion.",
        )
      const version = secret.versions.find((each) =>
        id === undefined ? each.stages.has(String(stage)) : each.id === id,
      )
      if (version === undefined)
        return fail(
          'ResourceNotFoundException',
          `Secrets Manager can't find the specified secret value for staging label: ${String(stage)}`,
        )
      return ok({
        ARN: `arn:aws:secretsmanager:${double.region}:1:secret:${String(name)}`,
        Name: name,
        VersionId: version.id,
        VersionStages: [...version.stages],
        ...(version.text === undefined ? { SecretBinary: version.binary } : { SecretString: version.text }),
        CreatedDate: 1,
      })
    },
    /** secretsmanager/latest/apireference/API_DescribeSecret.html: versions without labels are not listed. */
    DescribeSecret({ SecretId: name }, secret) {
      return secret === undefined
        ? notFound
        : ok({
            Name: name,
            ...(secret.isRotated === true ? { RotationEnabled: true } : {}),
            ...(secret.deleted ? { DeletedDate: 1 } : {}),
            VersionIdsToStages: Object.fromEntries(
              secret.versions.filter(({ stages }) => stages.size > 0).map(({ id, stages }) => [id, [...stages]]),
            ),
          })
    },
    /** secretsmanager/latest/apireference/API_PutSecretValue.html */
    PutSecretValue({ SecretString: text, ClientRequestToken: token, VersionStages: stages = ['AWSCURRENT'] }, secret) {
      if (secret === undefined) return notFound
      if (typeof token !== 'string' || token.length < 32 || token.length > 64)
        return fail('InvalidParameterException', 'ClientRequestToken must be 32-64 characters long.')
      const known = secret.versions.find(({ id }) => id === token)
      if (known !== undefined) {
        // The same content: nothing is done. Another: an error, because a version cannot be changed.
        return known.text === text
          ? ok({ VersionId: token })
          : fail('ResourceExistsException', 'A resource with the ID you requested already exists.')
      }
      const version: Version = { id: token, text: text as string, stages: new Set() }
      secret.versions.push(version)
      for (const stage of secret.versions.length === 1 ? ['AWSCURRENT', ...(stages as string[])] : (stages as string[]))
        label(secret, stage, version)
      return ok({ VersionId: token, VersionStages: [...version.stages] })
    },
    /** secretsmanager/latest/apireference/API_UpdateSecretVersionStage.html */
    UpdateSecretVersionStage({ VersionStage: stage, MoveToVersionId: to, RemoveFromVersionId: from }, secret) {
      if (secret === undefined) return notFound
      const holder = secret.versions.find(({ stages }) => stages.has(String(stage)))
      if (from !== undefined && holder?.id !== from)
        return fail(
          'InvalidParameterException',
          `The staging label ${String(stage)} is not attached to the version ${String(from)}.`,
        )
      if (to === undefined) {
        if (stage === 'AWSCURRENT')
          return fail('InvalidParameterException', "You can't remove the staging label AWSCURRENT from a version.")
        holder?.stages.delete(String(stage))
        return ok({})
      }
      if (holder !== undefined && holder.id !== to && from === undefined)
        return fail(
          'InvalidParameterException',
          `The staging label ${String(stage)} is currently attached to version ${holder.id}, so you must explicitly reference that version in RemoveFromVersionId.`,
        )
      const version = secret.versions.find(({ id }) => id === to)
      if (version === undefined)
        return fail('ResourceNotFoundException', "Secrets Manager can't find the specified secret version.")
      label(secret, String(stage), version)
      return ok({})
    },
  }

  /** kms/latest/APIReference: Encrypt, Decrypt, ReEncrypt with an encryption context. */
  const contextOf = (context: unknown): Buffer =>
    Buffer.from(
      JSON.stringify(
        Object.entries((context as Record<string, string> | undefined) ?? {}).sort(([left], [right]) =>
          left.localeCompare(right),
        ),
      ),
    )
  const arnOf = (keyId: string): string => `arn:aws:kms:${double.region}:1:key/${keyId}`
  /** By id, ARN or alias. */
  const keyNamed = (name: string): string | undefined => {
    const id = double.aliases.get(name) ?? name.replace(/^arn:aws:kms:[^:]*:1:key\//, '')
    return kmsKeys.has(id) ? id : undefined
  }
  /** A blob names the key that made it. */
  const seal = (keyId: string, plaintext: Buffer, context: unknown): string => {
    const nonce = randomBytes(12)
    const cipher = createCipheriv('aes-256-gcm', kmsKeys.get(keyId)!.bytes, nonce).setAAD(contextOf(context))
    return Buffer.concat([
      Buffer.from(keyId),
      nonce,
      cipher.update(plaintext),
      cipher.final(),
      cipher.getAuthTag(),
    ]).toString('base64')
  }
  const unseal = (blob: Buffer, context: unknown): { keyId: string; plaintext: Buffer } | undefined => {
    const keyId = blob.subarray(0, 36).toString()
    const bytes = blob.subarray(36)
    try {
      const decipher = createDecipheriv('aes-256-gcm', kmsKeys.get(keyId)!.bytes, bytes.subarray(0, 12))
        .setAAD(contextOf(context))
        .setAuthTag(bytes.subarray(-16))
      return {
        keyId,
        plaintext: Buffer.concat([decipher.update(bytes.subarray(12, -16)), decipher.final()]),
      }
    } catch {
      return undefined
    }
  }
  /** kms/latest/developerguide/key-state.html */
  const unusable = (keyId: string): Answer | undefined => {
    switch (kmsKeys.get(keyId)?.state) {
      case 'Disabled':
        return fail('DisabledException', `${arnOf(keyId)} is disabled.`)
      case 'PendingDeletion':
        return fail('KMSInvalidStateException', `${arnOf(keyId)} is pending deletion.`)
      default:
        return undefined
    }
  }
  const kms: Readonly<Record<string, (body: Body) => Answer>> = {
    Encrypt({ KeyId: name, Plaintext: plaintext, EncryptionContext: context }) {
      const keyId = keyNamed(String(name))
      if (keyId === undefined) return fail('NotFoundException', `Alias or key ${String(name)} is not found.`)
      const bytes = Buffer.from(String(plaintext), 'base64')
      if (bytes.length > 4096) return fail('ValidationException', 'Plaintext is longer than 4096 bytes')
      return unusable(keyId) ?? ok({ KeyId: arnOf(keyId), CiphertextBlob: seal(keyId, bytes, context) })
    },
    Decrypt({ CiphertextBlob: blob, EncryptionContext: context, KeyId: name }) {
      const opened = unseal(Buffer.from(String(blob), 'base64'), context)
      const keyId = name === undefined ? opened?.keyId : keyNamed(String(name))
      if (name !== undefined && keyId === undefined) return fail('NotFoundException', `${String(name)} is not found.`)
      // What was made by another key is refused for that before its context is looked at.
      const madeBy = Buffer.from(String(blob), 'base64').subarray(0, 36).toString()
      if (kmsKeys.has(madeBy) && keyId !== undefined && madeBy !== keyId)
        return fail(
          'IncorrectKeyException',
          'The key ID in the request does not identify a CMK that can perform this operation.',
        )
      if (opened === undefined) return fail('InvalidCiphertextException', '')
      return (
        unusable(opened.keyId) ?? ok({ KeyId: arnOf(opened.keyId), Plaintext: opened.plaintext.toString('base64') })
      )
    },
  }

  const answer = (request: IncomingMessage, body: Buffer): Answer => {
    const signer = {
      ...double,
      service: String(request.headers['x-amz-target']).startsWith('secretsmanager.') ? 'secretsmanager' : 'kms',
    }
    if (!isSigned({ method: 'POST', path: '/', query: '', headers: request.headers, body }, signer, ['x-amz-target']))
      return fail(
        'InvalidSignatureException',
        'The request signature we calculated does not match the signature you provided.',
      )
    if (request.headers['content-type'] !== 'application/x-amz-json-1.1') return fail('UnknownOperationException', '')
    const [service, operation = ''] = String(request.headers['x-amz-target']).split('.')
    const parsed = JSON.parse(body.toString('utf8')) as Body
    // secretsmanager/latest/userguide/auth-and-access.html
    if (double.denied.has(operation))
      return fail('AccessDeniedException', `User is not authorized to perform: ${service}:${operation}`)
    const at = double.meanwhile.findIndex((each) => each.operation === operation)
    if (at >= 0) double.meanwhile.splice(at, 1)[0]!.act()
    if (service === 'TrentService') return kms[operation]?.(parsed) ?? fail('UnknownOperationException', operation)
    return (
      operations[operation]?.(parsed, secretOf(String(parsed['SecretId']))) ??
      fail('UnknownOperationException', operation)
    )
  }

  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => {
      chunks.push(chunk)
    })
    request.on('end', () => {
      double.asked.push(String(request.headers['x-amz-target']).split('.')[1] ?? '')
      const spoilt = double.spoil.shift()
      const { status, body } =
        spoilt === undefined || typeof spoilt === 'string' ? answer(request, Buffer.concat(chunks)) : spoilt
      if (spoilt === 'drop') {
        response.destroy()
        return
      }
      response
        .writeHead(status, { 'content-type': 'application/x-amz-json-1.1', 'x-amzn-requestid': randomUUID() })
        .end(JSON.stringify(body))
    })
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  const add = (name: string, version: Version): void => {
    const secret = secrets.get(name) ?? { versions: [], deleted: false }
    secrets.set(name, secret)
    secret.versions.push(version)
    label(secret, 'AWSCURRENT', version)
  }
  const addKey = (): string => {
    const id = randomUUID()
    kmsKeys.set(id, { bytes: randomBytes(32), state: 'Enabled' })
    return id
  }
  const double: AwsDouble = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    region: 'eu-central-1',
    accessKeyId: 'AKIDEXAMPLE',
    secretAccessKey: randomBytes(20).toString('hex'),
    spoil: [],
    asked: [],
    meanwhile: [],
    denied: new Set(),
    put(name, text) {
      add(name, { id: randomUUID(), text, stages: new Set() })
    },
    putBinary(name) {
      add(name, { id: randomUUID(), text: undefined, binary: 'AAECAw==', stages: new Set() })
    },
    remove(name) {
      secrets.delete(name)
    },
    markForDeletion(name) {
      const secret = secrets.get(name)
      if (secret !== undefined) secret.deleted = true
    },
    rotateByAws(name) {
      const secret = secrets.get(name)
      if (secret !== undefined) secret.isRotated = true
    },
    textOf: (name) => secrets.get(name)?.versions.find(({ stages }) => stages.has('AWSCURRENT'))?.text,
    stagesOf: (name) =>
      Object.fromEntries((secrets.get(name)?.versions ?? []).map(({ id, stages }) => [id, [...stages]])),
    keyId: addKey(),
    aliases: new Map(),
    addKey,
    setKeyState(keyId, state) {
      kmsKeys.get(keyId)!.state = state
    },
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
