import { readFile } from 'node:fs/promises'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { CreateKeyCommand, KMSClient } from '@aws-sdk/client-kms'
import { createKmsClient, kmsKey } from '../../src/credentials/secret/aws/kms.ts'
import { createAwsSecrets, createSecretsManagerClient } from '../../src/credentials/secret/aws/secrets-manager.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { findMoto, secretsInMoto, startMoto, type Moto } from '../peers/moto.ts'

const REGION = 'eu-central-1'
const TOKEN = '0123456789abcdef0123456789abcdef'

interface Policy {
  readonly Statement: readonly { readonly Action: string | readonly string[] }[]
}

/** The policy that docs/aws.md prints. moto judges actions, and takes every resource for `*`. */
const printedPolicy = async (without?: string): Promise<string> => {
  const page = await readFile(new URL('../../docs/aws.md', import.meta.url), 'utf8')
  const text = /deputy-policy\.json <<JSON\n([\s\S]*?)\nJSON/.exec(page)![1]!
  expect(text).not.toMatch(/"Resource":\s*"\*"/)
  const policy = JSON.parse(text) as Policy
  const Statement = policy.Statement.map((statement) => ({
    ...statement,
    Action: [statement.Action].flat().filter((action) => action !== without),
    Resource: '*',
  }))
  return JSON.stringify({ ...policy, Statement: Statement.filter(({ Action }) => Action.length > 0) })
}

const moto = findMoto()
describe.skipIf(moto === undefined)('the permissions that docs/aws.md prints', () => {
  let server: Moto
  let keyId: string
  let users = 0
  beforeAll(async () => {
    server = await startMoto(moto!)
    const credentials = { accessKeyId: 'test', secretAccessKey: 'test' }
    const client = new KMSClient({ region: REGION, endpoint: server.url, credentials })
    keyId = (await client.send(new CreateKeyCommand({}))).KeyMetadata!.KeyId!
    client.destroy()
  })
  afterAll(async () => {
    await server?.close()
  })
  beforeEach(() => {
    for (const name of Object.keys(process.env)) if (name.startsWith('AWS_')) vi.stubEnv(name, undefined)
  })
  afterEach(() => {
    vi.unstubAllEnvs()
  })

  /** http://docs.getmoto.org/en/latest/docs/iam.html: how many requests are answered before policies count. */
  const enforce = async (isOn: boolean): Promise<void> => {
    const response = await fetch(`${server.url}/moto-api/reset-auth`, { method: 'POST', body: isOn ? '0' : 'inf' })
    expect(response.status).toBe(200)
    await response.body?.cancel()
  }
  const iam = async (form: Readonly<Record<string, string>>): Promise<string> => {
    const scope = 'Credential=test/20260101/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=0'
    const response = await fetch(server.url, {
      method: 'POST',
      headers: { authorization: `AWS4-HMAC-SHA256 ${scope}` },
      body: new URLSearchParams({ Version: '2010-05-08', ...form }),
    })
    const text = await response.text()
    expect(response.status, text).toBe(200)
    return text
  }
  /** A user with this policy and no other right; the daemon's clients are this user from now on. */
  const asUserWith = async (policy: string): Promise<void> => {
    await enforce(false)
    const UserName = `deputy-${(users += 1)}`
    const writer = secretsInMoto(server)
    await writer.put(`deputy/acme/key-${users}`, '{"password":"old","host":"db"}')
    writer.close()
    await iam({ Action: 'CreateUser', UserName })
    await iam({ Action: 'PutUserPolicy', UserName, PolicyName: 'deputy', PolicyDocument: policy })
    const made = await iam({ Action: 'CreateAccessKey', UserName })
    vi.stubEnv('AWS_ACCESS_KEY_ID', /<AccessKeyId>(.*?)</.exec(made)![1])
    vi.stubEnv('AWS_SECRET_ACCESS_KEY', /<SecretAccessKey>(.*?)</.exec(made)![1])
    await enforce(true)
  }
  /** All that Deputy does there: reads, rotates one field, wraps a data key and opens it. */
  const work = async (): Promise<void> => {
    const settings = { region: REGION, endpoint: server.url, timeout: 3000 }
    const [secrets, keys] = [createSecretsManagerClient(settings), createKmsClient(settings)]
    try {
      const field = 'password'
      const backend = createAwsSecrets({ id: 'aws', path: 'deputy/{tenant}/{secret}', client: secrets, field })
      const of = ['acme', `key-${users}`] as const
      const old = await backend.read(...of)
      await backend.expectRotatable!(...of)
      await backend.promote(...of, await backend.stage(...of, new Secret('new'), TOKEN), old)
      await backend.retire(...of, old)
      const key = kmsKey({ id: 'kek', key: keyId, client: keys })
      const [dataKey, context] = [new Uint8Array(32).fill(1), new Uint8Array(4)]
      const { id, bytes } = await key.wrap(dataKey, context)
      expect(Buffer.from(await key.unwrap(id, bytes, context))).toEqual(Buffer.from(dataKey))
    } finally {
      secrets.destroy()
      keys.destroy()
    }
  }

  it('fault 99: are all that Deputy needs', async () => {
    await asUserWith(await printedPolicy())
    await work()
  })

  it.each([
    'secretsmanager:GetSecretValue',
    'secretsmanager:DescribeSecret',
    'secretsmanager:PutSecretValue',
    'secretsmanager:UpdateSecretVersionStage',
    'kms:Encrypt',
    'kms:Decrypt',
  ])('fault 99: are all needed: %s', async (action) => {
    await asUserWith(await printedPolicy(action))
    // moto refuses in XML, which AWS does not do here, so its words are not read.
    await expect(work()).rejects.toMatchObject({ code: expect.stringMatching(/^secret_backend_/) as string })
  })
})
