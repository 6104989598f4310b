import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { secretBackendSchema } from '../../src/config/secret-backends.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { describeSecretBackend, describeStagedSecrets } from '../conformance/secret-backend.ts'
import { describeSecretField } from '../conformance/secret-field.ts'
import { anAws, anAwsField, connectToAws, withFieldValues } from '../support/vaults.ts'

const TOKEN = '0123456789abcdef0123456789abcdef'

describeSecretBackend('AWS Secrets Manager', anAws)
describeStagedSecrets('AWS Secrets Manager', anAws, { firsts: false })
const fieldValues = async () => withFieldValues(await anAwsField())
describeSecretBackend('a field in AWS Secrets Manager', fieldValues)
describeStagedSecrets('a field in AWS Secrets Manager', fieldValues, { firsts: false })
describeSecretField('AWS Secrets Manager', anAwsField)

describe('AWS Secrets Manager', () => {
  let place: Awaited<ReturnType<typeof anAws>>
  beforeEach(async () => {
    place = await anAws()
    await place.put('acme', 'key', 'old')
  })
  afterEach(async () => {
    await place.close()
  })
  const read = async (): Promise<string> => (await place.backend.read('acme', 'key')).value.reveal()
  const labels = (): string[][] => Object.values(place.aws.stagesOf('deputy/acme/key')).map((stages) => stages.sort())

  it('fault 96: names have the characters that AWS has, a slash before them too, and still keep tenants apart', () => {
    const isTaken = (path: string, backend: object = { kind: 'aws', region: 'eu-central-1' }): boolean =>
      secretBackendSchema.safeParse({ ...backend, path }).success
    const arn = 'arn:aws:secretsmanager:eu-central-1:123456789012:secret:'
    for (const path of [
      '/prod/{tenant}/{secret}',
      '/{tenant}/{secret}',
      'team@prod/a+b=c/{tenant}/{secret}',
      `${arn}{tenant}/{secret}`,
    ])
      expect([path, isTaken(path)]).toEqual([path, true])
    for (const path of [
      '//{tenant}/{secret}',
      '/{tenant}/{secret}/',
      '/../{tenant}/{secret}',
      '/{tenant}@{secret}',
      '/{tenant}+{secret}/x',
      '/{tenant}/x',
      `${arn}{tenant}-{secret}`,
      `${arn.replace('central', 'west')}{tenant}/{secret}`,
      `${arn.replace('secretsmanager', 's3')}{tenant}/{secret}`,
    ])
      expect([path, isTaken(path)]).toEqual([path, false])
    const vault = { kind: 'vault', address: 'https://vault.example', login: { token: { env: 'TOKEN' } } }
    expect([isTaken('a/{tenant}/{secret}', vault), isTaken('/a/{tenant}/{secret}', vault)]).toEqual([true, false])
    expect(isTaken('a@b/{tenant}/{secret}', vault)).toBe(false)
  })

  it('fault 96: an ARN leads to the secret of its name, and never to that of another tenant', async () => {
    const path = 'arn:aws:secretsmanager:eu-central-1:123456789012:secret:deputy/{secret}/{tenant}'
    const { backend, close } = connectToAws(place.aws, { path })
    await place.put('key', 'acme', 'of acme')
    expect((await backend.read('acme', 'key')).value.reveal()).toBe('of acme')
    // With an ARN AWS takes what is after the hyphen for its own addition.
    await expect(backend.read('acme-Ab12Cd', 'key')).rejects.toMatchObject({
      code: 'secret_backend_refused',
      message: expect.stringMatching(/six characters/) as string,
    })
    close()
  })

  it('fault 96: an external id needs its role', () => {
    const issues = (given: object) =>
      secretBackendSchema.safeParse({ kind: 'aws', region: 'eu-central-1', ...given }).error?.issues ?? []
    const role = 'arn:aws:iam::123456789012:role/deputy'
    expect(issues({ role, external_id: 'deputy-1', profile: 'prod' })).toEqual([])
    expect(issues({ external_id: 'deputy-1' })).toMatchObject([{ path: ['external_id'] }])
  })

  it('fault 100: what AWS rotates itself, and a label that another rotation has left, are named before anything is changed', async () => {
    const { backend, aws } = place
    await backend.expectRotatable!('acme', 'key')
    await backend.expectRotatable!('acme', 'none')
    const staged = await backend.stage('acme', 'key', new Secret('new'), TOKEN)
    await expect(backend.expectRotatable!('acme', 'key')).rejects.toMatchObject({
      code: 'rotation_not_possible',
      message: expect.stringMatching(new RegExp(`version ${TOKEN} with the label AWSPENDING.*remove-from-version-id`)),
    })
    await backend.discard('acme', 'key', staged.version)
    await backend.expectRotatable!('acme', 'key')
    aws.rotateByAws('deputy/acme/key')
    await expect(backend.expectRotatable!('acme', 'key')).rejects.toMatchObject({
      code: 'rotation_not_possible',
      message: expect.stringMatching(/rotated by AWS itself/) as string,
    })
  })

  it('fault 96: a kill between a merged version and its label leaves what the next promotion finishes', async () => {
    const { backend, close } = connectToAws(place.aws, { field: 'password' })
    const put = (host: string) => place.put('acme', 'key', JSON.stringify({ password: 'old', host }))
    await put('a')
    const staged = await backend.stage('acme', 'key', new Secret('new'), TOKEN)
    await put('b')
    const current = await backend.read('acme', 'key')
    // Labels, current, staged, the merged version; then the label, whose answer is an outage.
    const away = { status: 500, body: { __type: 'InternalServiceError', message: 'x' } }
    place.aws.spoil.push('pass', 'pass', 'pass', 'pass', away, away)
    await expect(backend.promote('acme', 'key', staged, current)).rejects.toMatchObject({
      code: 'secret_backend_unavailable',
    })
    place.aws.spoil.length = 0
    await put('c')
    await backend.promote('acme', 'key', staged, await backend.read('acme', 'key'))
    expect(JSON.parse(place.aws.textOf('deputy/acme/key')!)).toEqual({ password: 'new', host: 'c' })
    expect(labels().flat().sort()).toEqual(['AWSCURRENT', 'AWSPREVIOUS'])
    close()
  })

  it('fault 96, fault 91: whenever another writer comes in between, nothing of theirs is lost', async () => {
    const { aws } = place
    const { backend, close } = connectToAws(aws, { field: 'password' })
    const write = (fields: object) => aws.put('deputy/acme/key', JSON.stringify(fields))
    const now = () => JSON.parse(aws.textOf('deputy/acme/key')!) as object
    const meanwhile = (operation: string, fields: object) =>
      aws.meanwhile.push({ operation, act: () => write({ ...now(), ...fields }) })
    write({ password: 'old', host: 'a' })
    // Between the reading and the writing of what is staged.
    meanwhile('PutSecretValue', { host: 'b' })
    const staged = await backend.stage('acme', 'key', new Secret('new'), TOKEN)
    const before = await backend.read('acme', 'key')
    // Before the other fields are read, before the merged version is kept, and before the label is moved.
    for (const [operation, host] of [
      ['GetSecretValue', 'c'],
      ['PutSecretValue', 'd'],
      ['UpdateSecretVersionStage', 'e'],
    ] as const) {
      meanwhile(operation, { host })
      const current = await backend.read('acme', 'key')
      if (operation === 'GetSecretValue') meanwhile(operation, { port: 1 })
      await expect(backend.promote('acme', 'key', staged, current)).rejects.toMatchObject({ code: 'conflict' })
      expect(now()).toEqual({ password: 'old', host, port: 1 })
    }
    meanwhile('UpdateSecretVersionStage', { password: 'of a person' })
    await expect(backend.promote('acme', 'key', staged, await backend.read('acme', 'key'))).rejects.toMatchObject({
      code: 'conflict',
    })
    expect(now()).toEqual({ password: 'of a person', host: 'e', port: 1 })
    expect(labels().flat().sort()).toEqual(['AWSCURRENT', 'AWSPENDING', 'AWSPREVIOUS', 'DEPUTY_MERGED'])
    await backend.discard('acme', 'key', staged.version)
    expect(labels().flat().sort()).toEqual(['AWSCURRENT', 'AWSPREVIOUS'])
    write({ password: 'old', host: 'f' })
    await backend.promote('acme', 'key', staged, await backend.read('acme', 'key'))
    expect(now()).toEqual({ password: 'new', host: 'f' })
    expect(labels().flat().sort()).toEqual(['AWSCURRENT', 'AWSPREVIOUS'])
    expect(before.value.reveal()).toBe('old')
    close()
  })

  it('requirement 34: the four steps with their labels, each as often as it likes', async () => {
    const { backend, aws } = place
    const current = await backend.read('acme', 'key')
    const staged = await backend.stage('acme', 'key', new Secret('new'), TOKEN)
    expect(staged.version).toBe(TOKEN)
    expect(labels()).toEqual([['AWSCURRENT'], ['AWSPENDING']])
    await backend.promote('acme', 'key', staged, current)
    expect(labels()).toEqual([['AWSPREVIOUS'], ['AWSCURRENT']])
    const writes = (): number =>
      aws.asked.filter((operation) => operation.startsWith('Put') || operation.startsWith('Update')).length
    const before = writes()
    await backend.promote('acme', 'key', staged, current)
    expect(writes()).toBe(before)
    await backend.retire('acme', 'key', current)
    expect(labels()).toEqual([[], ['AWSCURRENT']])
  })

  it('requirement 34: a kill between the labels leaves what the next promotion puts right', async () => {
    const { backend, aws } = place
    const current = await backend.read('acme', 'key')
    const staged = await backend.stage('acme', 'key', new Secret('new'), TOKEN)
    // Looks at the labels, moves AWSCURRENT; the answer of that is lost, and when it is sent again the label is elsewhere.
    aws.spoil.push('pass', 'drop')
    await expect(backend.promote('acme', 'key', staged, current)).rejects.toMatchObject({
      code: 'secret_backend_refused',
    })
    expect(labels()).toEqual([['AWSPREVIOUS'], ['AWSCURRENT', 'AWSPENDING']])
    await backend.promote('acme', 'key', staged, current)
    expect(labels()).toEqual([['AWSPREVIOUS'], ['AWSCURRENT']])
    expect(await read()).toBe('new')
  })

  it('requirement 34: a label that a rotation function left behind on the current version is no pending one', async () => {
    const { backend } = place
    const current = await backend.read('acme', 'key')
    const staged = await backend.stage('acme', 'key', new Secret('new'), TOKEN)
    place.aws.spoil.push('pass', 'pass', { status: 200, body: {} })
    await backend.promote('acme', 'key', staged, current)
    expect(labels()).toContainEqual(['AWSCURRENT', 'AWSPENDING'])
    expect(await backend.find('acme', 'key', 'pending')).toBeUndefined()
  })

  it('requirement 35: throttling and errors within are tried again, and are an outage when they last', async () => {
    for (const name of ['ThrottlingException', 'RequestTimeoutException', 'InternalServiceError']) {
      const spoilt = { status: name === 'InternalServiceError' ? 500 : 400, body: { __type: name, message: 'x' } }
      place.aws.spoil.push(spoilt)
      expect(await read()).toBe('old')
      place.aws.spoil.push(spoilt, spoilt)
      await expect(read()).rejects.toMatchObject({
        code: 'secret_backend_unavailable',
        message: expect.stringContaining(name),
      })
      place.aws.spoil.length = 0
    }
  })

  it("requirement 35: what is refused is said in AWS's own words, and what is away is away", async () => {
    place.aws.spoil.push({
      status: 400,
      body: {
        __type: 'AccessDeniedException',
        message: 'User is not authorized to perform: secretsmanager:GetSecretValue',
      },
    })
    await expect(read()).rejects.toMatchObject({
      code: 'secret_backend_refused',
      message: expect.stringMatching(/AccessDeniedException\.$/) as string,
      facts: { answered: expect.stringMatching(/not authorized/) as string },
    })
    const forged = connectToAws(place.aws, { secretAccessKey: 'another' })
    await expect(forged.backend.read('acme', 'key')).rejects.toMatchObject({
      code: 'secret_backend_refused',
      message: expect.stringMatching(/InvalidSignature/),
    })
    forged.close()
    const gone = connectToAws(place.aws, { endpoint: 'http://127.0.0.1:1' })
    await expect(gone.backend.read('acme', 'key')).rejects.toMatchObject({ code: 'secret_backend_unavailable' })
    gone.close()
  })

  it('what is marked for deletion is missing, and what is binary is refused', async () => {
    place.aws.putBinary('deputy/acme/key')
    await expect(read()).rejects.toMatchObject({
      code: 'secret_backend_refused',
      message: expect.stringMatching(/binary/),
    })
    place.aws.markForDeletion('deputy/acme/key')
    await expect(read()).rejects.toMatchObject({ code: 'secret_missing' })
  })

  it('fault 100: its date of deletion says that a secret is gone, and not the words of a refusal', async () => {
    const spoilt = { status: 400, body: { __type: 'InvalidRequestException', message: 'Otherwise put.' } }
    place.aws.spoil.push(spoilt)
    await expect(read()).rejects.toMatchObject({ code: 'secret_backend_refused' })
    place.aws.markForDeletion('deputy/acme/key')
    place.aws.spoil.push(spoilt)
    await expect(read()).rejects.toMatchObject({ code: 'secret_missing' })
  })

  it('fault 100: an answer without what it should have is an outage', async () => {
    place.aws.spoil.push({ status: 200, body: {} })
    await expect(read()).rejects.toMatchObject({
      code: 'secret_backend_unavailable',
      message: expect.stringMatching(/documentation/) as string,
    })
  })
})
