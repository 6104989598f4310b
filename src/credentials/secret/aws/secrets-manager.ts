import {
  DescribeSecretCommand,
  GetSecretValueCommand,
  PutSecretValueCommand,
  SecretsManagerClient,
  SecretsManagerServiceException,
  UpdateSecretVersionStageCommand,
} from '@aws-sdk/client-secrets-manager'
import { createHash } from 'node:crypto'
import { z } from 'zod'
import { refuse } from '#errors'
import { Secret } from '#foundation/crypto'
import type { SecretStage } from '#foundation/store'
import { ownValue } from '#foundation/text'
import type { SecretVersion, StagedSecrets } from '../backend.ts'
import { jsonFields, jsonIndent } from '../json-fields.ts'
import { isSameSecret } from '../meaning.ts'
import { stagesOf } from '../stages.ts'
import type { AwsAccount } from './credentials.ts'
import { clientSettings, OUTERMOST, withinDeadline } from './deadline.ts'
import { mergedId, secretIdOf, tokenOf } from './names.ts'
import { awsProblem } from './problem.ts'

const LABEL = { pending: 'AWSPENDING', current: 'AWSCURRENT', previous: 'AWSPREVIOUS' } as const satisfies Record<
  SecretStage,
  string
>

/** Of a version that has the new field and another writer's other fields, until it is current. */
const MERGED_LABEL = 'DEPUTY_MERGED'

const valueSchema = z.object({
  SecretString: z.string().optional(),
  VersionId: z.string().min(1),
  VersionStages: z.array(z.string()).default([]),
})
const labelsSchema = z.object({
  DeletedDate: z.date().optional(),
  RotationEnabled: z.boolean().default(false),
  VersionIdsToStages: z.record(z.string(), z.array(z.string())).default({}),
})

const isNamed = (error: unknown, name: string): error is SecretsManagerServiceException =>
  error instanceof SecretsManagerServiceException && error.name === name

interface StoredText {
  readonly text: string
  readonly version: string
  readonly labels: readonly string[]
}

const digest = (text: string): string => createHash('sha256').update(text).digest('hex')

/**
 * Secrets in AWS Secrets Manager (https://docs.aws.amazon.com/secretsmanager/latest/userguide/rotate-secrets_lambda-functions.html).
 * Its staging labels are the stages, and the token of a rotation is the id of the version, which makes each of the four steps
 * one that can be repeated. A secret that has no version yet cannot be staged: its first one would be current at once.
 *
 * With `field` the secret is one field of a JSON object. A version cannot be changed, so where another writer has changed
 * other fields since the new one was staged, the promotion makes a version with both, and promotes that.
 */
export const createAwsSecrets = (options: {
  id: string
  path: string
  client: SecretsManagerClient
  /** Default: the secret as a whole. */
  field?: string | null
}): StagedSecrets => {
  const { id, client, field = null } = options
  const nameOf = (tenant: string, name: string): string => secretIdOf(id, options.path, tenant, name)
  const failed = awsProblem(id)
  const refused = (problem: string): Error => refuse('secret_backend_refused', { backend: id, problem })

  /** Reads an answer. @throws DeputyError `secret_backend_unavailable` for one of another form */
  const parsed = <Schema extends z.ZodType>(schema: Schema, answer: unknown): z.output<Schema> => {
    const { success, data } = schema.safeParse(answer)
    if (success) return data
    throw refuse('secret_backend_unavailable', {
      backend: id,
      problem: 'its answer is not what its documentation says',
    })
  }

  /**
   * Gone, or on its way there: what is marked for deletion can be read no more (GetSecretValue, InvalidRequestException). Its date of
   * deletion says so; where the daemon may not ask for that, the words do.
   */
  const isMissing = async (error: unknown, SecretId: string): Promise<boolean> => {
    if (isNamed(error, 'ResourceNotFoundException')) return true
    if (!isNamed(error, 'InvalidRequestException')) return false
    try {
      return parsed(labelsSchema, await client.send(new DescribeSecretCommand({ SecretId }))).DeletedDate !== undefined
    } catch {
      return /marked for deletion/.test(error.message)
    }
  }

  const fetchText = async (
    tenant: string,
    name: string,
    which: { VersionStage: string } | { VersionId: string },
  ): Promise<StoredText | undefined> => {
    const SecretId = nameOf(tenant, name)
    let answer
    try {
      answer = await client.send(new GetSecretValueCommand({ SecretId, ...which }))
    } catch (error) {
      if (await isMissing(error, SecretId)) return undefined
      throw failed(error)
    }
    const { SecretString: text, VersionId: version, VersionStages: labels } = parsed(valueSchema, answer)
    if (text === undefined) throw refused(`the secret ${name} of ${tenant} is binary`)
    return { text, version, labels }
  }

  const fieldsOf = (tenant: string, name: string, text: string): Readonly<Record<string, unknown>> => {
    const fields = jsonFields(text)
    if (fields === undefined)
      throw refused(`the secret ${name} of ${tenant} is no JSON object, so that it has no field ${String(field)}`)
    return fields
  }
  const valueOf = (tenant: string, name: string, text: string): string => {
    if (field === null) return text
    const value = ownValue(fieldsOf(tenant, name, text), field)
    if (typeof value !== 'string') throw refused(`the secret ${name} of ${tenant} has no text in the field ${field}`)
    return value
  }
  /** What the secret is with another value: of an object its other fields stay as they are. */
  const textWith = (tenant: string, name: string, before: string, value: Secret): string =>
    field === null
      ? value.reveal()
      : JSON.stringify({ ...fieldsOf(tenant, name, before), [field]: value.reveal() }, undefined, jsonIndent(before))

  const find = async (tenant: string, name: string, stage: SecretStage): Promise<SecretVersion | undefined> => {
    const found = await fetchText(tenant, name, { VersionStage: LABEL[stage] })
    // Rotation functions of others may leave the label behind on what is current.
    if (found === undefined || (stage === 'pending' && found.labels.includes(LABEL.current))) return undefined
    const { text, version } = found
    return { value: new Secret(valueOf(tenant, name, text)), version, token: tokenOf(version) }
  }

  const describe = async (tenant: string, name: string): Promise<z.output<typeof labelsSchema> | undefined> => {
    try {
      return parsed(labelsSchema, await client.send(new DescribeSecretCommand({ SecretId: nameOf(tenant, name) })))
    } catch (error) {
      if (isNamed(error, 'ResourceNotFoundException')) return undefined
      throw failed(error)
    }
  }
  const labelsOf = async (tenant: string, name: string): Promise<Readonly<Record<string, readonly string[]>>> =>
    (await describe(tenant, name))?.VersionIdsToStages ?? {}
  const holderOf = (labels: Readonly<Record<string, readonly string[]>>, label: string): string | undefined =>
    Object.keys(labels).find((version) => labels[version]?.includes(label) === true)

  const move = async (
    tenant: string,
    name: string,
    label: string,
    change: { MoveToVersionId?: string; RemoveFromVersionId?: string },
  ): Promise<void> => {
    try {
      await client.send(
        new UpdateSecretVersionStageCommand({ SecretId: nameOf(tenant, name), VersionStage: label, ...change }),
      )
    } catch (error) {
      throw failed(error)
    }
  }
  /** Takes the labels off this version, if it has them. */
  const unlabel = async (tenant: string, name: string, version: string, unwanted: readonly string[]): Promise<void> => {
    for (const label of (await labelsOf(tenant, name))[version] ?? [])
      if (unwanted.includes(label)) await move(tenant, name, label, { RemoveFromVersionId: version })
  }

  /** Keeps a version, unless there is one of that id already: the one of then counts. */
  const put = async (tenant: string, name: string, text: string, version: string, label: string): Promise<void> => {
    try {
      await client.send(
        new PutSecretValueCommand({
          SecretId: nameOf(tenant, name),
          ClientRequestToken: version,
          SecretString: text,
          VersionStages: [label],
        }),
      )
    } catch (error) {
      if (!isNamed(error, 'ResourceExistsException')) throw failed(error)
    }
  }

  const { read, staged, conflict } = stagesOf(find)

  /**
   * Id of the version that has the value of `next` and all other fields as they are now; it is made where there is none.
   * @returns undefined where what is current has that value already
   * @throws DeputyError `conflict` when another version is current than the one that the caller has read
   */
  const withOtherFields = async (
    tenant: string,
    name: string,
    next: SecretVersion,
    expected: string | undefined,
  ): Promise<string | undefined> => {
    const now = await fetchText(tenant, name, { VersionStage: LABEL.current })
    if (now !== undefined && isSameSecret(new Secret(valueOf(tenant, name, now.text)), next.value)) return undefined
    if (now === undefined || now.version !== expected) throw conflict(tenant, name)
    const text = textWith(tenant, name, now.text, next.value)
    const known = await fetchText(tenant, name, { VersionId: next.version })
    if (known?.text === text) return next.version
    const version = mergedId(tokenOf(next.version), digest, now.version)
    await put(tenant, name, text, version, MERGED_LABEL)
    return version
  }

  /** Moves AWSCURRENT, unless it is elsewhere by now. AWSPREVIOUS follows by itself. */
  const moveCurrent = async (tenant: string, name: string, to: string, from: string | undefined): Promise<void> => {
    const change = { MoveToVersionId: to, ...(from === undefined ? {} : { RemoveFromVersionId: from }) }
    try {
      await move(tenant, name, LABEL.current, change)
    } catch (error) {
      const current = await labelsOf(tenant, name)
        .then((labels) => holderOf(labels, LABEL.current))
        .catch(() => from)
      if (current !== from && current !== to) throw conflict(tenant, name)
      throw error
    }
  }

  return {
    read,
    find,
    async expectRotatable(tenant, name) {
      const found = await describe(tenant, name)
      const problem = (words: string): Error =>
        refuse('rotation_not_possible', { problem: `the secret ${name} of ${tenant} ${words}` })
      if (found?.RotationEnabled === true)
        throw problem(
          'is rotated by AWS itself: switch one of the two off (aws secretsmanager cancel-rotate-secret, or the policy here)',
        )
      const labels = found?.VersionIdsToStages ?? {}
      const pending = holderOf(labels, LABEL.pending)
      if (pending !== undefined && labels[pending]?.includes(LABEL.current) !== true)
        throw problem(
          `has the version ${pending} with the label AWSPENDING, which another rotation has left there: remove the label if that rotation is over (aws secretsmanager update-secret-version-stage --version-stage AWSPENDING --remove-from-version-id ${pending})`,
        )
    },
    async stage(tenant, name, value, token) {
      const pending = await staged(tenant, name, token)
      if (pending !== undefined) return pending
      const now = await fetchText(tenant, name, { VersionStage: LABEL.current })
      if (now === undefined) throw refuse('secret_missing', { tenant, secret: name })
      await put(tenant, name, textWith(tenant, name, now.text, value), token, LABEL.pending)
      let kept = await staged(tenant, name, token)
      if (kept === undefined) {
        // The version exists, and another writer has taken its label.
        await move(tenant, name, LABEL.pending, { MoveToVersionId: token })
        kept = await staged(tenant, name, token)
      }
      if (kept === undefined) throw conflict(tenant, name)
      return kept
    },
    async promote(tenant, name, next, expected) {
      const labels = await labelsOf(tenant, name)
      const current = holderOf(labels, LABEL.current)
      if (current !== next.version) {
        if (field === null && current !== expected?.version) throw conflict(tenant, name)
        const to = field === null ? next.version : await withOtherFields(tenant, name, next, expected?.version)
        if (to !== undefined) await moveCurrent(tenant, name, to, expected?.version)
        if (to !== undefined && to !== next.version) await unlabel(tenant, name, to, [MERGED_LABEL])
      }
      if (labels[next.version]?.includes(LABEL.pending) === true)
        await move(tenant, name, LABEL.pending, { RemoveFromVersionId: next.version })
    },
    // A version without labels is deprecated: Secrets Manager deletes it by itself.
    retire: (tenant, name, { version }) => unlabel(tenant, name, version, [LABEL.previous, MERGED_LABEL]),
    async discard(tenant, name, version) {
      if ((await find(tenant, name, 'pending'))?.version === version)
        await unlabel(tenant, name, version, [LABEL.pending])
      if (field === null) return
      // Of a promotion that another writer came before: with its label it would be kept for good.
      const merged = holderOf(await labelsOf(tenant, name), MERGED_LABEL)
      if (merged !== undefined && tokenOf(merged) === tokenOf(version))
        await unlabel(tenant, name, merged, [MERGED_LABEL])
    },
  }
}

/** A client for a region; its credentials are those of the account that the settings name. */
export const createSecretsManagerClient = (
  options: AwsAccount & { endpoint?: string | undefined; timeout: number },
): SecretsManagerClient => {
  const client = new SecretsManagerClient(clientSettings(options))
  client.middlewareStack.add((next) => (args) => withinDeadline(options.timeout, () => next(args)), OUTERMOST)
  return client
}
