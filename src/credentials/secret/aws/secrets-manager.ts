import { SecretsManagerClient } from '@aws-sdk/client-secrets-manager'
import { createHash } from 'node:crypto'
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
import { LabelledVersions, type LabelledVersionsOptions, versionWith } from './labelled-versions.ts'
import { mergedId, tokenOf } from './names.ts'

const LABEL = { pending: 'AWSPENDING', current: 'AWSCURRENT', previous: 'AWSPREVIOUS' } as const satisfies Record<
  SecretStage,
  string
>

/** Of a version that has the new field and another writer's other fields, until it is current. */
const MERGED_LABEL = 'DEPUTY_MERGED'

const digest = (text: string): string => createHash('sha256').update(text).digest('hex')

/** A secret as a text: one field of a JSON object, or, with `field` null, the text as a whole. */
interface TextForm {
  /** Of the backend. */
  readonly id: string
  readonly field: string | null
}

interface SecretName {
  readonly tenant: string
  readonly name: string
}

const fieldsIn = ({ id, field }: TextForm, { tenant, name }: SecretName, text: string) => {
  const fields = jsonFields(text)
  if (fields !== undefined) return fields
  throw refuse('secret_backend_refused', {
    backend: id,
    problem: `the secret ${name} of ${tenant} is no JSON object, so that it has no field ${String(field)}`,
  })
}

/** @throws DeputyError `secret_backend_refused` where the field has no text */
const valueIn = (form: TextForm, secret: SecretName, text: string): string => {
  const { id, field } = form
  if (field === null) return text
  const value = ownValue(fieldsIn(form, secret, text), field)
  if (typeof value === 'string') return value
  throw refuse('secret_backend_refused', {
    backend: id,
    problem: `the secret ${secret.name} of ${secret.tenant} has no text in the field ${field}`,
  })
}

/** The text with another value of the secret; other fields of an object stay as they are. */
const textWith = (form: TextForm, secret: SecretName, before: string, value: Secret): string =>
  form.field === null
    ? value.reveal()
    : JSON.stringify({ ...fieldsIn(form, secret, before), [form.field]: value.reveal() }, undefined, jsonIndent(before))

/**
 * Secrets in AWS Secrets Manager (https://docs.aws.amazon.com/secretsmanager/latest/userguide/rotate-secrets_lambda-functions.html).
 * Its staging labels are the stages, and the token of a rotation is the id of the version, which makes each of the four steps
 * repeatable. A secret that has no version yet cannot be staged: its first one would be current at once.
 *
 * With `field` the secret is one field of a JSON object. A version cannot be changed, so where another writer has changed
 * other fields since the new one was staged, the promotion makes a version with both, and promotes that.
 * @param options.field default: the secret as a whole
 */
export const createAwsSecrets = (
  options: LabelledVersionsOptions & { readonly field?: string | null },
): StagedSecrets => new AwsSecrets(options)

class AwsSecrets implements StagedSecrets {
  readonly #versions: LabelledVersions
  readonly #form: TextForm
  readonly #stages = stagesOf((tenant, name, stage) => this.find(tenant, name, stage))

  constructor(options: LabelledVersionsOptions & { readonly field?: string | null }) {
    this.#versions = new LabelledVersions(options)
    this.#form = { id: options.id, field: options.field ?? null }
  }

  read(tenant: string, name: string): Promise<SecretVersion> {
    return this.#stages.read(tenant, name)
  }

  async find(tenant: string, name: string, stage: SecretStage): Promise<SecretVersion | undefined> {
    const found = await this.#versions.fetch(tenant, name, { VersionStage: LABEL[stage] })
    // Rotation functions of other programs may leave the label on the current version.
    if (found === undefined || (stage === 'pending' && found.labels.includes(LABEL.current))) return undefined
    const { text, version } = found
    return { value: new Secret(valueIn(this.#form, { tenant, name }, text)), version, token: tokenOf(version) }
  }

  async expectRotatable(tenant: string, name: string): Promise<void> {
    const found = await this.#versions.describe(tenant, name)
    const problem = (words: string): Error =>
      refuse('rotation_not_possible', { problem: `the secret ${name} of ${tenant} ${words}` })
    if (found?.RotationEnabled === true)
      throw problem(
        'is rotated by AWS itself: switch one of the two off (aws secretsmanager cancel-rotate-secret, or the policy here)',
      )
    const labels = found?.VersionIdsToStages ?? {}
    const pending = versionWith(labels, LABEL.pending)
    if (pending !== undefined && labels[pending]?.includes(LABEL.current) !== true)
      throw problem(
        `has the version ${pending} with the label AWSPENDING, which another rotation has left there: remove the label if that rotation is over (aws secretsmanager update-secret-version-stage --version-stage AWSPENDING --remove-from-version-id ${pending})`,
      )
  }

  async stage(tenant: string, name: string, value: Secret, token: string): Promise<SecretVersion> {
    const pending = await this.#stages.staged(tenant, name, token)
    if (pending !== undefined) return pending
    const current = await this.#versions.fetch(tenant, name, { VersionStage: LABEL.current })
    if (current === undefined) throw refuse('secret_missing', { tenant, secret: name })
    const text = textWith(this.#form, { tenant, name }, current.text, value)
    await this.#versions.put(tenant, name, { text, version: token, label: LABEL.pending })
    let added = await this.#stages.staged(tenant, name, token)
    if (added === undefined) {
      // The version exists, and another writer has taken its label.
      await this.#versions.move(tenant, name, LABEL.pending, { MoveToVersionId: token })
      added = await this.#stages.staged(tenant, name, token)
    }
    if (added === undefined) throw this.#stages.conflict(tenant, name)
    return added
  }

  async promote(tenant: string, name: string, next: SecretVersion, expected: SecretVersion | undefined): Promise<void> {
    const { field } = this.#form
    const labels = await this.#versions.labels(tenant, name)
    const current = versionWith(labels, LABEL.current)
    if (current !== next.version) {
      if (field === null && current !== expected?.version) throw this.#stages.conflict(tenant, name)
      const to = field === null ? next.version : await this.#withOtherFields({ tenant, name }, next, expected?.version)
      if (to !== undefined) await this.#moveCurrent({ tenant, name }, to, expected?.version)
      if (to !== undefined && to !== next.version) await this.#versions.unlabel(tenant, name, to, [MERGED_LABEL])
    }
    if (labels[next.version]?.includes(LABEL.pending) === true)
      await this.#versions.move(tenant, name, LABEL.pending, { RemoveFromVersionId: next.version })
  }

  /** A version without labels is deprecated: Secrets Manager deletes it by itself. */
  retire(tenant: string, name: string, { version }: SecretVersion): Promise<void> {
    return this.#versions.unlabel(tenant, name, version, [LABEL.previous, MERGED_LABEL])
  }

  async discard(tenant: string, name: string, version: string): Promise<void> {
    if ((await this.find(tenant, name, 'pending'))?.version === version)
      await this.#versions.unlabel(tenant, name, version, [LABEL.pending])
    if (this.#form.field === null) return
    // Of a promotion that another writer preceded: with its label Secrets Manager would never delete it.
    const merged = versionWith(await this.#versions.labels(tenant, name), MERGED_LABEL)
    if (merged !== undefined && tokenOf(merged) === tokenOf(version))
      await this.#versions.unlabel(tenant, name, merged, [MERGED_LABEL])
  }

  /**
   * Id of the version that has the value of `next` and all other fields as they are now; it is made where there is none.
   * @returns undefined where the current version has that value already
   * @throws DeputyError `conflict` when another version is current than the one that the caller has read
   */
  async #withOtherFields(
    secret: SecretName,
    next: SecretVersion,
    expected: string | undefined,
  ): Promise<string | undefined> {
    const { tenant, name } = secret
    const current = await this.#versions.fetch(tenant, name, { VersionStage: LABEL.current })
    if (current !== undefined && isSameSecret(new Secret(valueIn(this.#form, secret, current.text)), next.value))
      return undefined
    if (current === undefined || current.version !== expected) throw this.#stages.conflict(tenant, name)
    const text = textWith(this.#form, secret, current.text, next.value)
    const known = await this.#versions.fetch(tenant, name, { VersionId: next.version })
    if (known?.text === text) return next.version
    const version = mergedId(tokenOf(next.version), digest, current.version)
    await this.#versions.put(tenant, name, { text, version, label: MERGED_LABEL })
    return version
  }

  /** Moves AWSCURRENT, unless another version has it by now. AWSPREVIOUS follows by itself. */
  async #moveCurrent({ tenant, name }: SecretName, to: string, from: string | undefined): Promise<void> {
    const change = { MoveToVersionId: to, ...(from === undefined ? {} : { RemoveFromVersionId: from }) }
    try {
      await this.#versions.move(tenant, name, LABEL.current, change)
    } catch (error) {
      const current = await this.#versions.labels(tenant, name).then(
        (labels) => versionWith(labels, LABEL.current),
        () => from,
      )
      if (current !== from && current !== to) throw this.#stages.conflict(tenant, name)
      throw error
    }
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
