/** The three backends of secrets, each with its real code, at doubles that answer as the originals do. */
import {
  DescribeSecretCommand,
  GetSecretValueCommand,
  PutSecretValueCommand,
  SecretsManagerServiceException,
  UpdateSecretVersionStageCommand,
  type SecretsManagerClient,
} from '@aws-sdk/client-secrets-manager'
import type { Envelope } from '../../../src/foundation/crypto/envelope.ts'
import { Secret } from '../../../src/foundation/crypto/secret.ts'
import { refuse } from '../../../src/errors.ts'
import { createAwsSecrets } from '../../../src/credentials/secret/aws/secrets-manager.ts'
import type { StagedSecrets } from '../../../src/credentials/secret/backend.ts'
import { createEmbeddedSecrets } from '../../../src/credentials/secret/embedded.ts'
import type { VaultAnswer } from '../../../src/credentials/secret/vault/client.ts'
import { createVaultSecrets } from '../../../src/credentials/secret/vault/kv.ts'
import type { SecretStore, StoredSecret } from '../../../src/foundation/store/records/secrets.ts'
import type { BackendKind, StoredVersion, World } from './world.ts'

/** Something asked of the outside, as data: so that it can arrive late. */
export interface Order {
  readonly what: string
  readonly writes: boolean
  /** Makes another value the one that is handed out. */
  readonly promotes?: boolean
  readonly args: readonly unknown[]
}
/** Asks the world; what becomes of it there is the model's business. */
export type AskWorld = (order: Order) => Promise<unknown>

export const plainEnvelope: Envelope = {
  seal: (name, text) => Promise.resolve(Buffer.from(JSON.stringify([name, text.reveal()]))),
  open(name, sealed) {
    const [sealedFor, text] = JSON.parse(Buffer.from(sealed).toString()) as [object, string]
    if (JSON.stringify(sealedFor) !== JSON.stringify(name)) throw refuse('secret_unreadable', { tenant: name.tenant })
    return Promise.resolve(new Secret(text))
  },
  destroy: () => Promise.resolve(),
}

const at = ({ stored }: World, stage: string): StoredVersion | undefined =>
  stored.find(({ stages }) => stages.includes(stage))
const unlabel = (version: StoredVersion | undefined, stage: string): void => {
  if (version !== undefined) version.stages = version.stages.filter((each) => each !== stage)
}

/** What the embedded store does, in the same transactions. */
const embeddedActs: Readonly<Record<string, (world: World, ...args: never[]) => unknown>> = {
  find: (world, stage: string) => at(world, stage),
  putPending(world, id: string, value: string, token: string) {
    if (at(world, 'pending') !== undefined || world.stored.some((each) => each.id === id))
      throw refuse('conflict', { what: 'secret' })
    world.stored.push({ id, value, token, stages: ['pending'] })
  },
  promote(world, id: string, expected: string | null) {
    const next = world.stored.find((each) => each.id === id && each.stages.some((stage) => stage !== 'current'))
    const current = at(world, 'current')
    if (next === undefined || (current?.id ?? null) !== expected) return
    world.stored = world.stored.filter((each) => each.id === id || !each.stages.includes('previous'))
    if (current !== undefined) current.stages = ['previous']
    next.stages = ['current']
  },
  remove(world, id: string, stage: string) {
    world.stored = world.stored.filter((each) => each.id !== id || !each.stages.includes(stage))
  },
}

const embedded = (ask: AskWorld): StagedSecrets => {
  const shown = async (found: StoredVersion | undefined, stage: string): Promise<StoredSecret | undefined> =>
    found === undefined
      ? undefined
      : {
          tenant: 'acme',
          name: 'database',
          version: Number(found.id),
          stage: stage as 'current',
          sealed: await plainEnvelope.seal(
            { tenant: 'acme', kind: 'secret', id: `database#${found.id}` },
            new Secret(found.value),
          ),
          createdAt: 0,
          token: found.token,
        }
  const store: Partial<SecretStore> = {
    async find(_tenant, _name, stage) {
      const found = await ask({ what: 'embedded find', writes: false, args: [stage] })
      return shown(found as StoredVersion | undefined, stage)
    },
    nextVersion: async () => Number(await ask({ what: 'next version', writes: false, args: [] })),
    async putPending({ name, version, sealed, token }) {
      const value = await plainEnvelope.open({ tenant: 'acme', kind: 'secret', id: `${name}#${version}` }, sealed)
      await ask({ what: 'embedded putPending', writes: true, args: [String(version), value.reveal(), token] })
    },
    async promote(_tenant, _name, version, expected) {
      const args = [String(version), expected === null ? null : String(expected)]
      await ask({ what: 'embedded promote', writes: true, promotes: true, args })
    },
    async removeVersion(_tenant, _name, version, stage) {
      await ask({ what: 'embedded remove', writes: true, args: [String(version), stage] })
    },
  }
  return createEmbeddedSecrets({ store: store as SecretStore, envelope: plainEnvelope, clock: { now: () => 0 } })
}

const TOKEN = 'deputy_token'
const answer = (status: number, body?: object): VaultAnswer => ({ status, body, retryAfter: undefined })

/** KV version 2. Versions may be pruned; `cas` is checked where it is given. */
const askKv = ({ kv }: World, method: string, path: string, body: Record<string, unknown> | undefined): VaultAnswer => {
  const isPending = path.includes('~pending')
  const newest = kv.pruned + kv.versions.length
  if (path.startsWith('secret/metadata')) {
    if (isPending) kv.pending = null
    return answer(204)
  }
  if (path.startsWith('secret/destroy')) {
    for (const number of body!['versions'] as number[]) {
      const found = kv.versions[number - kv.pruned - 1]
      if (found !== undefined) kv.versions[number - kv.pruned - 1] = { ...found, gone: true }
    }
    return answer(204)
  }
  if (method === 'GET') {
    const number = Number(/version=(\d+)/.exec(path)?.[1] ?? (isPending ? 1 : newest))
    const found = isPending
      ? kv.pending === null
        ? undefined
        : { ...kv.pending, gone: false }
      : kv.versions[number - kv.pruned - 1]
    if (found === undefined) return answer(404, { errors: [] })
    const metadata = { version: number }
    if (found.gone) return answer(404, { data: { data: null, metadata } })
    const mark = found.token === null ? {} : { [TOKEN]: found.token }
    return answer(200, { data: { data: { value: found.value, ...mark }, metadata } })
  }
  const { data, options } = body as { data: Record<string, string>; options: { cas?: number } }
  const version = { value: data['value']!, token: data[TOKEN] ?? null }
  const number = isPending ? (kv.pending === null ? 0 : 1) : newest
  if (options.cas !== undefined && options.cas !== number)
    return answer(400, { errors: ['check-and-set parameter did not match the current version'] })
  if (isPending) kv.pending = { value: version.value, token: version.token! }
  else kv.versions.push({ ...version, gone: false })
  return answer(200, { data: { version: number + 1 } })
}

const inKv = (ask: AskWorld): StagedSecrets =>
  createVaultSecrets({
    id: 'vault',
    mount: 'secret',
    path: 'deputy/{tenant}/{secret}',
    field: 'value',
    session: {
      ask: ({ method, path, body }) =>
        ask({
          what: 'kv',
          writes: method !== 'GET',
          promotes: method === 'POST' && path.startsWith('secret/data') && !path.includes('~pending'),
          args: [method, path, body],
        }) as Promise<VaultAnswer>,
    },
  })

const LABELS: Readonly<Record<string, string>> = {
  AWSPENDING: 'pending',
  AWSCURRENT: 'current',
  AWSPREVIOUS: 'previous',
}
const labelled = (stages: readonly string[]): string[] =>
  stages.map((stage) => Object.keys(LABELS).find((label) => LABELS[label] === stage)!)
const awsError = (name: string): Error =>
  new SecretsManagerServiceException({ name, $fault: 'client', message: name, $metadata: { httpStatusCode: 400 } })

/** Secrets Manager: labels move, AWSPREVIOUS follows AWSCURRENT, a version without labels stays for a while. */
const awsActs: Readonly<Record<string, (world: World, input: Record<string, unknown>) => unknown>> = {
  GetSecretValueCommand(world, { VersionStage: label }) {
    const found = at(world, LABELS[String(label)]!)
    if (found === undefined) throw awsError('ResourceNotFoundException')
    return { SecretString: found.value, VersionId: found.id, VersionStages: labelled(found.stages) }
  },
  DescribeSecretCommand: ({ stored }) => ({
    VersionIdsToStages: Object.fromEntries(
      stored.filter(({ stages }) => stages.length > 0).map(({ id, stages }) => [id, labelled(stages)]),
    ),
  }),
  PutSecretValueCommand(world, { ClientRequestToken: id, SecretString: value }) {
    const known = world.stored.find((each) => each.id === id)
    if (known !== undefined) {
      if (known.value !== value) throw awsError('ResourceExistsException')
      return {}
    }
    unlabel(at(world, 'pending'), 'pending')
    world.stored.push({ id: String(id), value: String(value), token: String(id), stages: ['pending'] })
    return {}
  },
  UpdateSecretVersionStageCommand(world, { VersionStage: label, MoveToVersionId: to, RemoveFromVersionId: from }) {
    const stage = LABELS[String(label)]!
    const holder = at(world, stage)
    if (from !== undefined && holder?.id !== from) throw awsError('InvalidParameterException')
    if (to === undefined) {
      unlabel(holder, stage)
      return {}
    }
    if (holder !== undefined && holder.id !== to && from === undefined) throw awsError('InvalidParameterException')
    const next = world.stored.find(({ id }) => id === to)
    if (next === undefined) throw awsError('ResourceNotFoundException')
    if (stage === 'current' && holder !== undefined && holder !== next) {
      unlabel(at(world, 'previous'), 'previous')
      holder.stages.push('previous')
    }
    unlabel(holder, stage)
    next.stages.push(stage)
    return {}
  },
}

const inAws = (ask: AskWorld): StagedSecrets => {
  const send = (
    command: DescribeSecretCommand | GetSecretValueCommand | PutSecretValueCommand | UpdateSecretVersionStageCommand,
  ): Promise<unknown> => {
    const { name } = command.constructor
    const writes = name.startsWith('Put') || name.startsWith('Update')
    const promotes = 'VersionStage' in command.input && command.input.VersionStage === 'AWSCURRENT' && writes
    return ask({ what: `aws ${name}`, writes, promotes, args: [command.input] })
  }
  return createAwsSecrets({
    id: 'aws',
    path: 'deputy/{tenant}/{secret}',
    client: { send } as unknown as SecretsManagerClient,
  })
}

export const BACKENDS: Readonly<Record<BackendKind, (ask: AskWorld) => StagedSecrets>> = {
  embedded,
  kv: inKv,
  aws: inAws,
}

/** Carries an order out. */
export const carryOut = (world: World, { what, args }: Order): unknown => {
  const [kind, act] = what.split(' ') as [string, string]
  if (kind === 'kv') return askKv(world, ...(args as [string, string, Record<string, unknown> | undefined]))
  if (kind === 'aws') return awsActs[act]!(world, args[0] as Record<string, unknown>)
  if (what === 'next version') return 1 + Math.max(0, ...world.stored.map(({ id }) => Number(id)))
  return embeddedActs[act]!(world, ...(args as never[]))
}
/** How the backend says that it cannot be asked. */
export const unavailable = (kind: BackendKind): Error =>
  kind === 'aws'
    ? Object.assign(new Error('away'), { name: 'TimeoutError' })
    : refuse(kind === 'kv' ? 'secret_backend_unavailable' : 'store_unavailable', { backend: 'vault', problem: 'away' })
