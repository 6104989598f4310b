import {
  DescribeSecretCommand,
  GetSecretValueCommand,
  PutSecretValueCommand,
  SecretsManagerClient,
  SecretsManagerServiceException,
  UpdateSecretVersionStageCommand,
} from '@aws-sdk/client-secrets-manager'
import { z } from 'zod'
import { pathFor } from '#config'
import { refuse } from '#errors'
import { Secret } from '#foundation/crypto'
import type { SecretStage } from '#foundation/store'
import type { SecretVersion, StagedSecrets } from '../backend.ts'
import { stagesOf } from '../stages.ts'
import { clientSettings, OUTERMOST, withinDeadline } from './deadline.ts'
import { awsProblem } from './problem.ts'

const LABEL = { pending: 'AWSPENDING', current: 'AWSCURRENT', previous: 'AWSPREVIOUS' } as const satisfies Record<
  SecretStage,
  string
>

const valueSchema = z.object({
  SecretString: z.string().optional(),
  VersionId: z.string().min(1),
  VersionStages: z.array(z.string()).default([]),
})
const labelsSchema = z.object({
  DeletedDate: z.date().optional(),
  VersionIdsToStages: z.record(z.string(), z.array(z.string())).default({}),
})

const isNamed = (error: unknown, name: string): error is SecretsManagerServiceException =>
  error instanceof SecretsManagerServiceException && error.name === name

/**
 * Secrets in AWS Secrets Manager (https://docs.aws.amazon.com/secretsmanager/latest/userguide/rotate-secrets_lambda-functions.html).
 * Its staging labels are the stages, and the token of a rotation is the id of the version, which makes each of the four steps
 * one that can be repeated. A secret that has no version yet cannot be staged: its first one would be current at once.
 */
export const createAwsSecrets = (options: {
  id: string
  path: string
  client: SecretsManagerClient
}): StagedSecrets => {
  const { id, client } = options
  const nameOf = (tenant: string, name: string): string => pathFor(options.path, tenant, name)
  const failed = awsProblem(id)

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

  const find = async (tenant: string, name: string, stage: SecretStage): Promise<SecretVersion | undefined> => {
    let answer
    try {
      answer = await client.send(
        new GetSecretValueCommand({ SecretId: nameOf(tenant, name), VersionStage: LABEL[stage] }),
      )
    } catch (error) {
      if (await isMissing(error, nameOf(tenant, name))) return undefined
      throw failed(error)
    }
    const { SecretString: text, VersionId: version, VersionStages: labels } = parsed(valueSchema, answer)
    // Rotation functions of others may leave the label behind on what is current.
    if (stage === 'pending' && labels.includes(LABEL.current)) return undefined
    if (text === undefined)
      throw refuse('secret_backend_refused', { backend: id, problem: `the secret ${name} of ${tenant} is binary` })
    return { value: new Secret(text), version, token: version }
  }

  const labelsOf = async (tenant: string, name: string): Promise<Readonly<Record<string, readonly string[]>>> => {
    try {
      return parsed(labelsSchema, await client.send(new DescribeSecretCommand({ SecretId: nameOf(tenant, name) })))
        .VersionIdsToStages
    } catch (error) {
      if (isNamed(error, 'ResourceNotFoundException')) return {}
      throw failed(error)
    }
  }
  const move = async (
    tenant: string,
    name: string,
    stage: SecretStage,
    change: { MoveToVersionId?: string; RemoveFromVersionId?: string },
  ): Promise<void> => {
    try {
      await client.send(
        new UpdateSecretVersionStageCommand({ SecretId: nameOf(tenant, name), VersionStage: LABEL[stage], ...change }),
      )
    } catch (error) {
      throw failed(error)
    }
  }
  /** Takes the label off this version, if it has it. */
  const unlabel = async (tenant: string, name: string, stage: SecretStage, version: string): Promise<void> => {
    if ((await labelsOf(tenant, name))[version]?.includes(LABEL[stage]) === true)
      await move(tenant, name, stage, { RemoveFromVersionId: version })
  }

  const { read, staged, conflict } = stagesOf(find)
  return {
    read,
    find,
    async stage(tenant, name, value, token) {
      const pending = await staged(tenant, name, token)
      if (pending !== undefined) return pending
      if (!Object.values(await labelsOf(tenant, name)).some((labels) => labels.includes(LABEL.current)))
        throw refuse('secret_missing', { tenant, secret: name })
      try {
        await client.send(
          new PutSecretValueCommand({
            SecretId: nameOf(tenant, name),
            ClientRequestToken: token,
            SecretString: value.reveal(),
            VersionStages: [LABEL.pending],
          }),
        )
      } catch (error) {
        // The version is there with another value: the one of then counts.
        if (!(error instanceof SecretsManagerServiceException && error.name === 'ResourceExistsException'))
          throw failed(error)
      }
      let now = await staged(tenant, name, token)
      if (now === undefined) {
        // The version exists, and another writer has taken its label.
        await move(tenant, name, 'pending', { MoveToVersionId: token })
        now = await staged(tenant, name, token)
      }
      if (now === undefined) throw conflict(tenant, name)
      return now
    },
    async promote(tenant, name, { version }, expected) {
      const labels = await labelsOf(tenant, name)
      const has = (stage: SecretStage): boolean => labels[version]?.includes(LABEL[stage]) === true
      if (!has('current')) {
        const current = Object.keys(labels).find((each) => labels[each]?.includes(LABEL.current) === true)
        if (current !== expected?.version) throw conflict(tenant, name)
        // Secrets Manager refuses it when AWSCURRENT is elsewhere by now. AWSPREVIOUS follows by itself.
        await move(tenant, name, 'current', {
          MoveToVersionId: version,
          ...(current === undefined ? {} : { RemoveFromVersionId: current }),
        })
      }
      if (has('pending')) await move(tenant, name, 'pending', { RemoveFromVersionId: version })
    },
    // A version without labels is deprecated: Secrets Manager deletes it by itself.
    retire: (tenant, name, { version }) => unlabel(tenant, name, 'previous', version),
    async discard(tenant, name, version) {
      if ((await find(tenant, name, 'pending'))?.version === version) await unlabel(tenant, name, 'pending', version)
    },
  }
}

/** A client for a region; its credentials come from the SDK's standard chain. */
export const createSecretsManagerClient = (options: {
  region: string
  endpoint?: string | undefined
  timeout: number
}): SecretsManagerClient => {
  const client = new SecretsManagerClient({
    ...clientSettings(options),
    // Adaptive: throttled requests are spread, so that the account's quota is respected.
    retryMode: 'adaptive',
    maxAttempts: 4,
  })
  client.middlewareStack.add((next) => (args) => withinDeadline(options.timeout, () => next(args)), OUTERMOST)
  return client
}
