import { CreateKeyCommand } from '@aws-sdk/client-kms'
import { AssumeRoleCommand, STSClient } from '@aws-sdk/client-sts'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest'
import { createKmsClient, kmsKey } from '../../src/credentials/secret/aws/kms.ts'
import { createAwsSecrets, createSecretsManagerClient } from '../../src/credentials/secret/aws/secrets-manager.ts'
import { describeSecretBackend, describeStagedSecrets } from '../conformance/secret-backend.ts'
import { describeSecretField } from '../conformance/secret-field.ts'
import { findMoto, secretsInMoto, startMoto, type Moto } from '../peers/moto.ts'
import { withFieldValues } from '../support/vaults.ts'

const REGION = 'eu-central-1'
const PATH = 'deputy/{tenant}/{secret}'
/** moto has every account that is named, and finds it in the key. */
const OTHER_ACCOUNT = '222222222222'
const ROLE = `arn:aws:iam::${OTHER_ACCOUNT}:role/deputy`

const moto = findMoto()
describe.skipIf(moto === undefined)('Secrets Manager of a real moto', () => {
  let server: Moto
  let count = 0
  beforeAll(async () => {
    server = await startMoto(moto!)
  })
  afterAll(async () => {
    await server?.close()
  })
  beforeEach(() => {
    for (const name of Object.keys(process.env)) if (name.startsWith('AWS_')) vi.stubEnv(name, undefined)
    vi.stubEnv('AWS_ENDPOINT_URL_STS', server.url)
    vi.stubEnv('AWS_EC2_METADATA_DISABLED', 'true')
    vi.stubEnv('AWS_ACCESS_KEY_ID', 'test')
    vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'test')
  })
  afterEach(() => {
    vi.unstubAllEnvs()
  })

  const place = (field: string | null) => () => {
    const folder = `test-${(count += 1)}`
    const { client, put, text, remove, close } = secretsInMoto(server)
    const idOf = (tenant: string, name: string) => `${folder}/${tenant}/${name}`
    return Promise.resolve({
      backend: createAwsSecrets({ id: 'aws', path: `${folder}/{tenant}/{secret}`, client, field }),
      put: (tenant: string, name: string, value: string) => put(idOf(tenant, name), value),
      text: (tenant: string, name: string) => text(idOf(tenant, name)),
      remove: (tenant: string, name: string) => remove(idOf(tenant, name)),
      close: () => Promise.resolve(close()),
    })
  }
  const fieldValues = async () => withFieldValues(await place('password')())
  describeSecretBackend('a real moto', place(null))
  describeStagedSecrets('a real moto', place(null), { firsts: false })
  describeStagedSecrets('a field in a real moto', fieldValues, { firsts: false })
  describeSecretField('a real moto', place('password'))

  /** What the daemon's own client finds. */
  const read = async (given: object, path = PATH): Promise<string> => {
    const client = createSecretsManagerClient({ region: REGION, endpoint: server.url, timeout: 3000, ...given })
    try {
      return (await createAwsSecrets({ id: 'aws', path, client }).read('acme', 'key')).value.reveal()
    } finally {
      client.destroy()
    }
  }

  it('fault 96: two backends are two accounts: a role or a profile of its own for each, and an ARN as a name', async () => {
    const sts = new STSClient({
      region: REGION,
      endpoint: server.url,
      credentials: { accessKeyId: 'test', secretAccessKey: 'test' },
    })
    const { Credentials: given } = await sts.send(new AssumeRoleCommand({ RoleArn: ROLE, RoleSessionName: 'setup' }))
    sts.destroy()
    const keys = { accessKeyId: given!.AccessKeyId!, secretAccessKey: given!.SecretAccessKey! }
    const [here, there] = [secretsInMoto(server), secretsInMoto(server, keys)]
    await here.put('deputy/acme/key', 'here')
    await there.put('deputy/acme/key', 'there')
    const folder = await mkdtemp(join(tmpdir(), 'deputy-aws-'))
    onTestFinished(() => rm(folder, { recursive: true, force: true }))
    const config = join(folder, 'config')
    await writeFile(
      config,
      `[profile base]\naws_access_key_id = test\naws_secret_access_key = test\n[profile other]\nrole_arn = ${ROLE}\nsource_profile = base\nregion = ${REGION}\n`,
    )
    vi.stubEnv('AWS_CONFIG_FILE', config)
    vi.stubEnv('AWS_SHARED_CREDENTIALS_FILE', join(folder, 'none'))
    expect(await read({})).toBe('here')
    expect(await read({ role: ROLE, external_id: 'deputy-1' })).toBe('there')
    expect(await read({ profile: 'base' })).toBe('here')
    expect(await read({ profile: 'other' })).toBe('there')
    expect(await read({ profile: 'base', role: ROLE })).toBe('there')
    expect(await read({}, `arn:aws:secretsmanager:${REGION}:123456789012:secret:${PATH}`)).toBe('here')
    // A profile that does not exist is none: the keys of the environment, or of the machine, do not take its place.
    await expect(read({ profile: 'othr' })).rejects.toMatchObject({
      code: 'secret_backend_unavailable',
      message: expect.stringMatching(/the profile othr gives no credentials/) as string,
    })
    vi.stubEnv('AWS_ENDPOINT_URL_STS', 'http://127.0.0.1:1')
    await expect(read({ role: ROLE })).rejects.toMatchObject({
      code: 'secret_backend_unavailable',
      message: expect.stringMatching(/its role could not be assumed: no program listens/) as string,
    })
    here.close()
    there.close()
  })

  it('fault 96: a key-encryption key is in the account of its role', async () => {
    const settings = { region: REGION, endpoint: server.url, timeout: 3000 }
    const inOther = createKmsClient({ ...settings, role: ROLE })
    onTestFinished(() => inOther.destroy())
    const { KeyMetadata: made } = await inOther.send(new CreateKeyCommand({}))
    expect(made!.Arn).toContain(`:${OTHER_ACCOUNT}:key/`)
    const at = [new Uint8Array(32).fill(3), new Uint8Array(4)] as const
    const key = kmsKey({ id: 'kek', key: made!.KeyId!, client: inOther })
    const { id, bytes } = await key.wrap(...at)
    expect(Buffer.from(await key.unwrap(id, bytes, at[1]))).toEqual(Buffer.from(at[0]))
    const without = createKmsClient(settings)
    onTestFinished(() => without.destroy())
    await expect(kmsKey({ id: 'kek', key: made!.KeyId!, client: without }).wrap(...at)).rejects.toMatchObject({
      code: 'secret_backend_refused',
    })
  })
})
