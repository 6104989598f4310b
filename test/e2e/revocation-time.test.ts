/** What a revocation covers when clocks are wrong, texts differ and time goes by: a real daemon whose clock can be set. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startOAuthProvider, type OAuthProviderDouble } from '../doubles/oauth-provider.ts'
import { aCompany, RESOURCES } from '../support/configuration.ts'
import {
  ACCESS_TOKEN,
  ask,
  startDaemonProcess,
  startTestIssuer,
  TOKEN_EXCHANGE,
  type Answer,
  type Daemon,
  type TestIssuer,
} from '../support/daemon.ts'
import { grantFiles, seedGrants } from '../support/grants.ts'
import { startProcess, testProgram } from '../support/process.ts'

const HOUR = 3_600_000
const DAY = 24 * HOUR

let issuer: TestIssuer
let provider: OAuthProviderDouble
let daemon: Daemon
const setClock = (ahead: number): Promise<void> => writeFile(join(daemon.home, 'clock'), String(ahead))
const start = async (): Promise<void> => {
  const program = testProgram('clock-daemon')
  daemon.process = await startProcess([program, daemon.home, join(daemon.home, 'clock')], /deputy is ready/)
}
const restart = async (): Promise<void> => {
  await daemon.stop()
  await start()
}

beforeAll(async () => {
  issuer = await startTestIssuer()
  provider = await startOAuthProvider()
  daemon = await startDaemonProcess({
    ...aCompany({
      issuer: issuer.url,
      notes: { downstreams: { ledger: { scopes: ['ledger:read'] }, 'notes-api': { scopes: ['read'] } } },
    }),
    ...grantFiles(provider),
  })
  await daemon.stop()
  await seedGrants(daemon.home, provider, ['alice', 'gustav'])
  await setClock(0)
  await start()
})
afterAll(async () => {
  await daemon?.close()
  await provider?.close()
  await issuer?.close()
})

const now = (): number => Math.floor(Date.now() / 1000)
const signed = (user: string, more: object = {}): Promise<string> =>
  issuer.sign({ aud: RESOURCES.notes, org: 'acme', sub: user, ...more })
const use = (token: string, audience = 'ledger'): Promise<Answer> =>
  daemon.token({
    grant_type: TOKEN_EXCHANGE,
    subject_token: token,
    subject_token_type: ACCESS_TOKEN,
    audience,
    scope: audience === 'ledger' ? 'ledger:read' : 'read',
  })
const reasonOf = async (token: string, audience?: string): Promise<unknown> => {
  const { status, body } = await use(token, audience)
  return status === 200 ? 'given' : body['reason']
}
const admin = (path: string, order?: object): Promise<Answer> =>
  ask(
    { socketPath: join(daemon.home, 'run/admin.sock') },
    {
      path,
      ...(order === undefined ? {} : { headers: { 'content-type': 'application/json' }, body: JSON.stringify(order) }),
    },
  )
const revoke = async (scope: object): Promise<void> => {
  expect((await admin('/revoke', { scope })).status).toBe(200)
}
/** The id by which the audit log knows the user's token. */
const tokenIdOf = async (user: string): Promise<string> => {
  const [row] = JSON.parse((await admin(`/audit?user=${user}&last=true&limit=1`)).text) as {
    record: { detail: { subject: { token: string } } }
  }[]
  return row!.record.detail.subject.token
}

/** The other signature that is as good: (r, n - s) of P-256. */
const otherSignature = (token: string): string => {
  const order = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n
  const [header, payload, signature] = token.split('.')
  const bytes = Buffer.from(signature!, 'base64url')
  const s = order - BigInt(`0x${bytes.subarray(32).toString('hex')}`)
  const other = Buffer.concat([bytes.subarray(0, 32), Buffer.from(s.toString(16).padStart(64, '0'), 'hex')])
  return `${header}.${payload}.${other.toString('base64url')}`
}

describe('a revocation', () => {
  it('faults 4 and 7, promise 4: of a token without jti holds for every text of it, for as long as the token lives, also after a restart', async () => {
    const token = await signed('bob', { jti: undefined, exp: now() + (90 * DAY) / 1000 })
    expect(await reasonOf(token)).toBe('given')
    const other = otherSignature(token)
    expect([other === token, await reasonOf(other)]).toEqual([false, 'given'])
    await revoke({ kind: 'token', token: await tokenIdOf('bob') })
    const texts = [token, other]
    const bent = [`${token}\n`, `${token} `, ` ${token}`, token.replace('.', '.\n'), `${token}=`]
    const judged = async (): Promise<unknown[]> => Promise.all([...texts, ...bent].map((text) => reasonOf(text)))
    const expected = [...texts.map(() => 'revoked'), ...bent.map(() => 'subject_token_invalid')]
    expect(await judged()).toEqual(expected)
    await restart()
    expect(await judged()).toEqual(expected)
    const kept = JSON.parse((await admin('/revocations')).text) as { scope: { kind: string }; forgetAt: unknown }[]
    expect(kept.filter(({ scope }) => scope.kind === 'token').map(({ forgetAt }) => forgetAt)).toEqual([null])
    expect(await reasonOf(await signed('bob', { jti: undefined }))).toBe('given')
  })

  it('fault 5, promise 4: covers a token of an issuer whose clock is ahead, whenever it is seen first, also after a restart', async () => {
    const [unseen, later] = [await signed('carol', { iat: now() + 25 }), await signed('carol', { iat: now() + 2 })]
    expect(await reasonOf(await signed('carol'))).toBe('given')
    await revoke({ kind: 'user', tenant: 'acme', user: 'carol' })
    expect(await reasonOf(unseen)).toBe('revoked')
    await restart()
    expect([await reasonOf(unseen), await reasonOf(later)]).toEqual(['revoked', 'revoked'])
    await setClock(60_000)
    expect(await reasonOf(await signed('carol', { iat: now() + 60 }))).toBe('given')
    await setClock(0)
  })

  it('fault 6, promise 4: covers what was given while the clock was ahead', async () => {
    await setClock(2 * HOUR)
    const long = { exp: now() + DAY / 1000 }
    expect(await reasonOf(await signed('alice', long), 'notes-api')).toBe('given')
    const { body } = await use(await signed('alice', long))
    await setClock(0)
    expect(await reasonOf(await signed('alice', long), 'notes-api')).toBe('given')
    await revoke({ kind: 'user', tenant: 'acme', user: 'alice' })
    expect(await reasonOf(await signed('alice', { ...long, iat: now() + 20 }), 'notes-api')).not.toBe('given')
    const { body: state } = await ask(
      { socketPath: daemon.socketPath },
      {
        path: '/oauth2/introspect',
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
        body: new URLSearchParams({ token: String(body['access_token']) }).toString(),
      },
    )
    expect(state).toEqual({ active: false })
    // Others go on.
    expect(await reasonOf(await signed('gustav', long), 'notes-api')).toBe('given')
  })
})
