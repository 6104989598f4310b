import {
  DescribeSecretCommand,
  GetSecretValueCommand,
  PutSecretValueCommand,
  type SecretsManagerClient,
  SecretsManagerServiceException,
  UpdateSecretVersionStageCommand,
} from '@aws-sdk/client-secrets-manager'
import { z } from 'zod'
import { refuse } from '#errors'
import { secretIdOf } from './names.ts'
import { awsProblem } from './problem.ts'

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

/** The text of one version of a secret. */
export interface StoredText {
  readonly text: string
  readonly version: string
  readonly labels: readonly string[]
}

/** The staging labels of each version of a secret. */
export type VersionLabels = Readonly<Record<string, readonly string[]>>

/** The version that has a label. */
export const versionWith = (labels: VersionLabels, label: string): string | undefined =>
  Object.keys(labels).find((version) => labels[version]?.includes(label) === true)

export interface LabelledVersionsOptions {
  /** Of the backend. */
  readonly id: string
  readonly path: string
  readonly client: SecretsManagerClient
}

/**
 * Versions of secrets and their staging labels, as the API of Secrets Manager has them
 * (https://docs.aws.amazon.com/secretsmanager/latest/apireference/). Every method throws DeputyError
 * `secret_backend_unavailable` and `secret_backend_refused`.
 */
export class LabelledVersions {
  readonly #options: LabelledVersionsOptions
  readonly #failed: ReturnType<typeof awsProblem>

  constructor(options: LabelledVersionsOptions) {
    this.#options = options
    this.#failed = awsProblem(options.id)
  }

  async fetch(
    tenant: string,
    name: string,
    which: { readonly VersionStage: string } | { readonly VersionId: string },
  ): Promise<StoredText | undefined> {
    const { id, client } = this.#options
    const SecretId = this.#idOf(tenant, name)
    let answer
    try {
      answer = await client.send(new GetSecretValueCommand({ SecretId, ...which }))
    } catch (error) {
      if (await this.#isMissing(error, SecretId)) return undefined
      throw this.#failed(error)
    }
    const { SecretString: text, VersionId: version, VersionStages: labels } = this.#parsed(valueSchema, answer)
    if (text === undefined)
      throw refuse('secret_backend_refused', { backend: id, problem: `the secret ${name} of ${tenant} is binary` })
    return { text, version, labels }
  }

  /** @returns undefined for a secret that does not exist */
  async describe(tenant: string, name: string): Promise<z.output<typeof labelsSchema> | undefined> {
    try {
      const SecretId = this.#idOf(tenant, name)
      return this.#parsed(labelsSchema, await this.#options.client.send(new DescribeSecretCommand({ SecretId })))
    } catch (error) {
      if (isNamed(error, 'ResourceNotFoundException')) return undefined
      throw this.#failed(error)
    }
  }

  async labels(tenant: string, name: string): Promise<VersionLabels> {
    return (await this.describe(tenant, name))?.VersionIdsToStages ?? {}
  }

  async move(
    tenant: string,
    name: string,
    label: string,
    change: { readonly MoveToVersionId?: string; readonly RemoveFromVersionId?: string },
  ): Promise<void> {
    try {
      await this.#options.client.send(
        new UpdateSecretVersionStageCommand({ SecretId: this.#idOf(tenant, name), VersionStage: label, ...change }),
      )
    } catch (error) {
      throw this.#failed(error)
    }
  }

  /** Takes labels off a version, where it has them. */
  async unlabel(tenant: string, name: string, version: string, unwanted: readonly string[]): Promise<void> {
    for (const label of (await this.labels(tenant, name))[version] ?? [])
      if (unwanted.includes(label)) await this.move(tenant, name, label, { RemoveFromVersionId: version })
  }

  /** Adds a version with one label. A version of that id that exists already stays as it is. */
  async put(tenant: string, name: string, added: { text: string; version: string; label: string }): Promise<void> {
    try {
      await this.#options.client.send(
        new PutSecretValueCommand({
          SecretId: this.#idOf(tenant, name),
          ClientRequestToken: added.version,
          SecretString: added.text,
          VersionStages: [added.label],
        }),
      )
    } catch (error) {
      if (!isNamed(error, 'ResourceExistsException')) throw this.#failed(error)
    }
  }

  /**
   * Whether a secret is deleted, or marked for deletion, which makes it unreadable (GetSecretValue, InvalidRequestException). Its
   * date of deletion decides; where the daemon may not ask for that, the message does.
   */
  async #isMissing(error: unknown, SecretId: string): Promise<boolean> {
    if (isNamed(error, 'ResourceNotFoundException')) return true
    if (!isNamed(error, 'InvalidRequestException')) return false
    try {
      const answer = await this.#options.client.send(new DescribeSecretCommand({ SecretId }))
      return this.#parsed(labelsSchema, answer).DeletedDate !== undefined
    } catch {
      return /marked for deletion/.test(error.message)
    }
  }

  /** @throws DeputyError `secret_backend_unavailable` for an answer of another form */
  #parsed<Schema extends z.ZodType>(schema: Schema, answer: unknown): z.output<Schema> {
    const { success, data } = schema.safeParse(answer)
    if (success) return data
    throw refuse('secret_backend_unavailable', {
      backend: this.#options.id,
      problem: 'its answer is not what its documentation says',
    })
  }

  #idOf(tenant: string, name: string): string {
    return secretIdOf(this.#options.id, this.#options.path, tenant, name)
  }
}
