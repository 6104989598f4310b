import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { secretBackendSchema } from '../../src/config/secret-backends.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { describeSecretBackend, describeStagedSecrets } from '../conformance/secret-backend.ts'
import { anAws, connectToAws } from '../support/vaults.ts'

const TOKEN = '0123456789abcdef0123456789abcdef'

describeSecretBackend('AWS Secrets Manager', anAws)
describeStagedSecrets('AWS Secrets Manager', anAws, { firsts: false })

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
    for (const path of ['/prod/{tenant}/{secret}', '/{tenant}/{secret}', 'team@prod/a+b=c/{tenant}/{secret}'])
      expect([path, isTaken(path)]).toEqual([path, true])
    for (const path of [
      '//{tenant}/{secret}',
      '/{tenant}/{secret}/',
      '/../{tenant}/{secret}',
      '/{tenant}@{secret}',
      '/{tenant}+{secret}/x',
      '/{tenant}/x',
      'arn:aws:secretsmanager:eu-central-1:123456789012:secret:{tenant}/{secret}',
    ])
      expect([path, isTaken(path)]).toEqual([path, false])
    const vault = { kind: 'vault', address: 'https://vault.example', login: { token: { env: 'TOKEN' } } }
    expect([isTaken('a/{tenant}/{secret}', vault), isTaken('/a/{tenant}/{secret}', vault)]).toEqual([true, false])
    expect(isTaken('a@b/{tenant}/{secret}', vault)).toBe(false)
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
