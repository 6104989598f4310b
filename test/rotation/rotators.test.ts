import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createSystemRandom } from '../../src/clock.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import type { AskingRotator } from '../../src/flows/rotation/rotator.ts'
import { createCommandRotator } from '../../src/flows/rotation/rotators/command.ts'
import { scramVerifier } from '../../src/flows/rotation/rotators/postgres.ts'
import { describeRotator, type RotatorPlace } from '../conformance/rotator.ts'
import { findPostgres, startPostgres, type PostgresServer } from '../peers/postgres.ts'
import { findRedis, startRedis, type RedisServer } from '../peers/redis.ts'
import { anOAuthClient, aPostgresRole, aRedisUser, aVaultStaticRole, aWebhook, ownKeys } from './places.ts'

const bin = findPostgres()

describe.skipIf(bin === undefined)('with a real Postgres', () => {
  let server: PostgresServer
  beforeAll(async () => {
    server = await startPostgres(bin!)
  })
  afterAll(async () => {
    await server?.close()
  })
  describeRotator('a PostgreSQL role', () => aPostgresRole(server, 'single'))
  describeRotator('two PostgreSQL roles in turn', () => aPostgresRole(server, 'alternating'))
})

describe.skipIf(!findRedis())('with a real Redis', () => {
  let server: RedisServer
  beforeAll(async () => {
    server = await startRedis(['save ""'])
  })
  afterAll(async () => {
    await server?.close()
  })
  describeRotator('a Redis ACL user', () => aRedisUser(server))
})

/** A program of the security team's: its target is a file with the values that it accepts. */
const PROGRAM = `#!${process.execPath}
const { readFileSync, writeFileSync, existsSync } = require('node:fs')
const order = JSON.parse(readFileSync(0, 'utf8'))
const file = process.argv[2]
if (Object.keys(process.env).some((name) => name.startsWith('DEPUTY'))) process.exit(3)
if (!existsSync(file)) { if (order.step === 'next') process.exit(0); process.exit(2) }
const accepted = JSON.parse(readFileSync(file, 'utf8'))
const keep = (values) => writeFileSync(file, JSON.stringify([...new Set(values)]))
switch (order.step) {
  case 'next': break
  case 'apply': keep([...accepted, order.next]); break
  case 'login': process.exit(accepted.includes(order.current) ? 0 : 10)
  case 'retire': keep(accepted.filter((value) => value !== order.old)); break
}
`

const aCommand = async (): Promise<RotatorPlace & { folder: string }> => {
  const folder = await mkdtemp(join(tmpdir(), 'deputy-command-'))
  const [program, target] = [join(folder, 'rotate.cjs'), join(folder, 'target.json')]
  await writeFile(program, PROGRAM)
  await chmod(program, 0o700)
  await writeFile(target, JSON.stringify(['the-first']))
  const rotator = createCommandRotator(
    { program, args: [target], timeout: 5000 },
    {
      secret: { tenant: 'acme', backend: 'embedded', secret: 'key' },
      supportsDualSecrets: true,
      random: createSystemRandom(),
    },
  )
  return {
    folder,
    current: new Secret('the-first'),
    rotator: {
      ...rotator,
      check: async () => {
        if (
          await readFile(target).then(
            () => false,
            () => true,
          )
        )
          throw new Error('the target does not exist')
      },
    },
    cut: () => rm(target),
    removeAccount: () => rm(target),
    close: () => rm(folder, { recursive: true, force: true }),
  }
}

describeRotator('a program', aCommand)
describeRotator('a webhook', aWebhook)
describeRotator("Deputy's signing keys", ownKeys('signing-keys'))
describeRotator("Deputy's key-encryption key", ownKeys('key-encryption-key'))
describeRotator('the data key of a tenant', ownKeys('data-key.acme'))
describeRotator('an OAuth client at a real oidc-provider', anOAuthClient)
describeRotator('a static role of Vault', aVaultStaticRole)

describe('fault 24: a program that names the next secret', () => {
  const next = async (print: string): Promise<string> => {
    const folder = await mkdtemp(join(tmpdir(), 'deputy-command-'))
    const program = join(folder, 'next.cjs')
    await writeFile(program, `#!${process.execPath}\n${print}`)
    await chmod(program, 0o700)
    const rotator = createCommandRotator(
      { program, args: [], timeout: 5000 },
      {
        secret: { tenant: 'acme', backend: 'embedded', secret: 'key' },
        supportsDualSecrets: true,
        random: createSystemRandom(),
      },
    )
    try {
      return (await rotator.next(undefined)).reveal()
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  }

  it('is taken byte for byte, also where a character comes in two pieces', async () => {
    const inTwo = `const bytes = Buffer.from('{"next":"p\u00e4ss"}'), at = bytes.indexOf(0xc3) + 1
process.stdout.write(bytes.subarray(0, at)); setTimeout(() => process.stdout.write(bytes.subarray(at)), 100)`
    expect(await next(inTwo)).toBe('p\u00e4ss')
  })

  it('is refused where it is no UTF-8', async () => {
    await expect(next(`process.stdout.write(Buffer.from('{"next":"p\\xe4ss"}', 'latin1'))`)).rejects.toThrow(/no UTF-8/)
  })
})

describe('an OAuth client', () => {
  it('is not rotated at a server that keeps secrets, and works as before', async () => {
    const place = await anOAuthClient({ keepsSecrets: true })
    await expect((place.rotator as AskingRotator).apply([place.current])).rejects.toThrow(/keeps the secret/)
    expect(await place.rotator.login(place.current)).toBe('works')
    await place.close()
  })

  it('keeps the registration access token that the server gives in place of the one before', async () => {
    const place = await anOAuthClient({ rotatesTokens: true })
    const before = place.token()
    const first = await (place.rotator as AskingRotator).apply([place.current])
    expect(place.token()).not.toBe(before)
    const second = await (place.rotator as AskingRotator).apply([first])
    expect([
      await place.rotator.login(place.current),
      await place.rotator.login(first),
      await place.rotator.login(second),
    ]).toEqual(['refused', 'refused', 'works'])
    await place.close()
  })
})

describe('a program that rotates', () => {
  it('that hangs, fails or cannot be started is a failure, and never a refusal', async () => {
    const of = (program: string, args: string[]) =>
      createCommandRotator(
        { program, args, timeout: 300 },
        {
          secret: { tenant: 'acme', backend: 'embedded', secret: 'key' },
          supportsDualSecrets: true,
          random: createSystemRandom(),
        },
      )
    await expect(of('/bin/sleep', ['30']).login(new Secret('x'))).rejects.toThrow(/ended by SIGKILL/)
    await expect(of('/bin/false', []).login(new Secret('x'))).rejects.toThrow(/exit code 1/)
    await expect(of('/no/such/program', []).login(new Secret('x'))).rejects.toThrow(/ENOENT/)
  })

  it('promise 5: gets secrets on standard input alone, and no shell', async () => {
    const place = await aCommand()
    const value = new Secret('"; touch /tmp/deputy-shell; $(id)')
    expect(await place.rotator.login(value)).toBe('refused')
    await place.close()
  })
})

describe('a SCRAM verifier', () => {
  it('is what RFC 7677 gives for its example', async () => {
    // https://www.rfc-editor.org/rfc/rfc7677#section-3: password "pencil", this salt, 4096 iterations; the server's signature there is under this key.
    const verifier = await scramVerifier('pencil', Buffer.from('W22ZaJ0SNY7soEsUEjb6gQ==', 'base64'))
    const [, serverKey] = verifier.split('$')[2]!.split(':')
    const { createHmac } = await import('node:crypto')
    const message =
      'n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0'
    expect(createHmac('sha256', Buffer.from(serverKey!, 'base64')).update(message).digest('base64')).toBe(
      '6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=',
    )
  })
})
