import { randomUUID } from 'node:crypto'
import { SignJWT, UnsecuredJWT } from 'jose'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { aCompany, RESOURCES } from '../support/configuration.ts'
import {
  ACCESS_TOKEN,
  aKeyPair,
  ask,
  startDaemonHere,
  startTestIssuer,
  TOKEN_EXCHANGE,
  type Answer,
  type RunningDaemon,
  type TestIssuer,
} from '../support/daemon.ts'

const REVOKED = 'https://schemas.openid.net/secevent/caep/event-type/session-revoked'
const CHANGED = 'https://schemas.openid.net/secevent/caep/event-type/credential-change'
const AUDIENCE = 'https://deputy.example/signals'

let issuer: TestIssuer
let other: TestIssuer
let daemon: RunningDaemon
let acme: object
/** Each test has users and sessions of its own at one daemon. */
let [user, bob] = ['', '']
let tests = 0
/** How many revocations there were before the test. */
let earlier = 0
beforeEach(async () => {
  tests += 1
  ;[user, bob] = [`alice-${tests}`, `bob-${tests}`]
  earlier += (await revocations()).length
})
beforeAll(async () => {
  issuer = await startTestIssuer()
  other = await startTestIssuer()
  const company = aCompany({ issuer: issuer.url })
  const tenant = (id: string, transmitter: string, token: string, claims: object = {}): object => ({
    tenant: id,
    issuers: [
      { issuer: issuer.url, claims: { tenant: { claim: 'org', value: id }, ...claims } },
      { issuer: other.url, claims: { tenant: { claim: 'org', value: id } } },
    ],
    signals: [{ issuer: transmitter, audience: AUDIENCE, token: { file: token } }],
    ...(id === 'acme' ? { sign_in: { issuer: issuer.url, client_id: 'deputy' } } : {}),
  })
  daemon = await startDaemonHere({
    ...company,
    'tenants/acme.yaml': (acme = tenant('acme', issuer.url, 'acme-token')),
    'tenants/globex.yaml': tenant('globex', other.url, 'globex-token'),
    'acme-token': 'acme-says-so',
    'globex-token': 'globex-says-so',
  })
})
afterAll(async () => {
  await daemon?.close()
  await issuer?.close()
  await other?.close()
})

const exchange = async (subject: string): Promise<unknown> => {
  const { status, body } = await daemon.token({
    grant_type: TOKEN_EXCHANGE,
    subject_token: subject,
    subject_token_type: ACCESS_TOKEN,
    audience: 'ledger',
    scope: 'ledger:read',
  })
  return status === 200 ? 'given' : body['reason']
}
const tokenOf = (sub: string, org = 'acme'): Promise<string> => issuer.sign({ aud: RESOURCES.notes, org, sub })
const event = (given: object = {}, header: object = {}, by = issuer): Promise<string> =>
  by.sign(
    {
      iss: by.url,
      aud: AUDIENCE,
      jti: randomUUID(),
      exp: undefined,
      sub: undefined,
      groups: undefined,
      sub_id: { format: 'iss_sub', iss: issuer.url, sub: user },
      events: { [REVOKED]: { event_timestamp: 1 } },
      ...given,
    } as never,
    { typ: 'secevent+jwt', ...header },
  )
const push = (body: string, options: { tenant?: string; token?: string; type?: string } = {}): Promise<Answer> =>
  ask(
    { port: daemon.port },
    {
      path: `/signals/${options.tenant ?? 'acme'}`,
      headers: {
        'content-type': options.type ?? 'application/secevent+jwt',
        ...(options.token === '' ? {} : { authorization: `Bearer ${options.token ?? 'acme-says-so'}` }),
      },
      body,
    },
  )
/** Those since the test began. */
const revocations = async (): Promise<{ by: string }[]> => {
  const { text } = await ask({ socketPath: `${daemon.home}/run/admin.sock` }, { path: '/revocations' })
  return (JSON.parse(text) as { by: string }[]).slice(earlier)
}

describe('a security event', () => {
  // The first: no token that was seen names a session.
  it('names its user in the forms of RFC 9493, by the claim that names users, or is refused', async () => {
    const alice = await tokenOf(user)
    expect(
      (
        await push(
          await event({
            sub_id: {
              format: 'complex',
              user: { format: 'iss_sub', iss: issuer.url, sub: user },
              session: { format: 'opaque', id: 's' },
            },
          }),
        )
      ).status,
    ).toBe(202)
    expect(await exchange(alice)).toBe('revoked')
    for (const subId of [
      { format: 'email', email: 'alice@example.com' },
      { format: 'opaque', id: user },
      { format: 'iss_sub', iss: other.url, sub: user },
      undefined,
      user,
    ]) {
      const { status, body } = await push(await event({ sub_id: subId }))
      expect([status, body['err']]).toEqual([400, 'invalid_request'])
    }
  })

  it('promise 4: requirement 26: of a session that was ended is the revocation of its user', async () => {
    const [alice, bobs] = [await tokenOf(user), await tokenOf(bob)]
    expect([await exchange(alice), await exchange(bobs)]).toEqual(['given', 'given'])
    const answer = await push(await event())
    expect([answer.status, answer.text]).toEqual([202, ''])
    expect([await exchange(alice), await exchange(bobs)]).toEqual(['revoked', 'given'])
    expect((await daemon.deputy('explain', String(answer.headers['x-correlation-id']))).out).toContain(user)
  })

  it("fault 66, promise 4, promise 8: that names a session ends the tokens of that session, and neither the user's others nor the grants nor another tenant's", async () => {
    const ofSession = (sid: string, org = 'acme'): Promise<string> =>
      issuer.sign({ aud: RESOURCES.notes, org, sub: user, sid } as never)
    const elsewhere = await ofSession(`s1 of ${user}`, 'globex')
    const [ended, other] = [await ofSession(`s1 of ${user}`), await ofSession(`s2 of ${user}`)]
    const subject = (session: string): object => ({
      sub_id: {
        format: 'complex',
        user: { format: 'iss_sub', iss: issuer.url, sub: user },
        session: { format: 'opaque', id: session },
      },
    })
    expect([await exchange(ended), await exchange(other)]).toEqual(['given', 'given'])
    const answer = await push(await event(subject(`s1 of ${user}`)))
    expect(answer.status).toBe(202)
    expect([await exchange(ended), await exchange(other)]).toEqual(['revoked', 'given'])
    expect(await exchange(elsewhere)).toBe('given')
    // A token of that session that was not seen before, too; and the session's id at the issuer stands in no record.
    expect(await exchange(await ofSession(`s1 of ${user}`))).toBe('revoked')
    const scopes = (await revocations()) as unknown as { scope: { kind: string; token?: string } }[]
    expect(scopes.map(({ scope }) => scope.kind)).toEqual(['token'])
    expect(scopes[0]!.scope.token).not.toContain(`s1 of ${user}`)
    // Where the tenant's file says so, all that the user has.
    await daemon.write({
      'tenants/acme.yaml': {
        tenant: 'acme',
        issuers: [{ issuer: issuer.url, claims: { tenant: { claim: 'org', value: 'acme' } } }],
        signals: [{ issuer: issuer.url, audience: AUDIENCE, token: { file: 'acme-token' }, session_revoked: 'user' }],
      },
    })
    expect((await daemon.deputy('reload')).code).toBe(0)
    expect((await push(await event(subject(`s3 of ${user}`)))).status).toBe(202)
    expect(await exchange(other)).toBe('revoked')
    await daemon.write({ 'tenants/acme.yaml': acme })
    expect((await daemon.deputy('reload')).code).toBe(0)
  })

  it('requirement 26: of a changed credential is too, and of a new one is not', async () => {
    const alice = await tokenOf(user)
    expect(
      (await push(await event({ events: { [CHANGED]: { change_type: 'create', credential_type: 'fido2-platform' } } })))
        .status,
    ).toBe(202)
    expect(await exchange(alice)).toBe('given')
    expect(
      (await push(await event({ events: { [CHANGED]: { change_type: 'revoke', credential_type: 'password' } } })))
        .status,
    ).toBe(202)
    expect(await exchange(alice)).toBe('revoked')
  })

  it('requirement 26: that comes twice, or again after a restart, is one revocation', async () => {
    const token = await event()
    expect([(await push(token)).status, (await push(token)).status]).toEqual([202, 202])
    await daemon.stop()
    await daemon.start()
    expect((await push(token)).status).toBe(202)
    expect(await revocations()).toHaveLength(1)
    expect((await revocations())[0]!.by).toBe(`signal of ${issuer.url}`)
  })

  it('requirement 26: that verifies the stream, or is of a kind that is not known, is taken and changes nothing', async () => {
    expect(
      (
        await push(
          await event({
            sub_id: { format: 'opaque', id: 'stream' },
            events: { 'https://schemas.openid.net/secevent/ssf/event-type/verification': { state: 'x' } },
          }),
        )
      ).status,
    ).toBe(202)
    expect((await push(await event({ events: { 'https://example.com/unheard-of': {} } }))).status).toBe(202)
    expect(await revocations()).toEqual([])
  })

  it("threat 25: of one tenant's transmitter ends nothing of another tenant's", async () => {
    const gustav = await tokenOf('gustav', 'globex')
    expect(await exchange(gustav)).toBe('given')
    const about = { sub_id: { format: 'iss_sub', iss: issuer.url, sub: 'gustav' } }
    expect((await push(await event(about), { tenant: 'globex' })).body['err']).toBe('authentication_failed')
    expect((await push(await event(about), { tenant: 'globex', token: 'globex-says-so' })).body['err']).toBe(
      'invalid_issuer',
    )
    expect((await push(await event(about))).status).toBe(202)
    expect(await exchange(gustav)).toBe('given')
  })

  it('requirement 26: that is not what it should be is refused in the words of RFC 8935', async () => {
    const alice = await tokenOf(user)
    const { privateKey } = aKeyPair()
    const foreign = await new SignJWT({ iss: issuer.url, aud: AUDIENCE, jti: 'x', events: { [REVOKED]: {} } })
      .setProtectedHeader({ alg: 'ES256', kid: 'key', typ: 'secevent+jwt' })
      .setIssuedAt()
      .sign(privateKey)
    const hmac = await new SignJWT({ iss: issuer.url, aud: AUDIENCE, jti: 'x', events: { [REVOKED]: {} } })
      .setProtectedHeader({ alg: 'HS256', kid: 'key', typ: 'secevent+jwt' })
      .setIssuedAt()
      .sign(new TextEncoder().encode('0'.repeat(32)))
    const unsigned = new UnsecuredJWT({ iss: issuer.url, aud: AUDIENCE, events: { [REVOKED]: {} } }).encode()
    const cases: [string | Promise<string>, string, Parameters<typeof push>[1]?][] = [
      [event(), 'authentication_failed', { token: '' }],
      [event(), 'authentication_failed', { token: 'guess' }],
      [event(), 'access_denied', { tenant: 'nobody' }],
      [event(), 'invalid_request', { type: 'application/json' }],
      [event({}, { typ: 'JWT' }), 'invalid_request'],
      [event({}, { typ: 'at+jwt' }), 'invalid_request'],
      ['no token', 'invalid_request'],
      ['', 'invalid_request'],
      ['x'.repeat(70_000), 'invalid_request'],
      [event({ aud: 'https://else.example' }), 'invalid_audience'],
      [event({}, {}, other), 'invalid_issuer'],
      [foreign, 'invalid_key'],
      [hmac, 'invalid_key'],
      [unsigned, 'invalid_request'],
      [event({ iat: Math.floor(Date.now() / 1000) + 600 }), 'invalid_request'],
      [event({ iat: 1 }), 'invalid_request'],
      [event({ jti: undefined }), 'invalid_request'],
      [event({ events: { [REVOKED]: {}, [CHANGED]: {} } }), 'invalid_request'],
      [event({ events: {} }), 'invalid_request'],
    ]
    for (const [token, err, options] of cases) {
      const { status, body } = await push(await token, options)
      expect([status, body['err'], typeof body['description']]).toEqual([400, err, 'string'])
    }
    expect(await exchange(alice)).toBe('given')
    // A token of a user is signed by the same key, and is no event.
    expect((await push(alice)).body['err']).toBe('invalid_request')
    expect(await exchange(await event())).not.toBe('given')
  })
})

describe('a back-channel logout', () => {
  const LOGOUT = 'http://schemas.openid.net/event/backchannel-logout'
  const logoutToken = (given: object = {}, header: object = {}, by = issuer): Promise<string> =>
    by.sign({ aud: 'deputy', sub: user, groups: undefined, events: { [LOGOUT]: {} }, ...given } as never, {
      typ: 'logout+jwt',
      ...header,
    })
  const logOut = (token: string, tenant = 'acme'): Promise<Answer> =>
    ask(
      { port: daemon.port },
      {
        path: `/logout/${tenant}`,
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
        body: new URLSearchParams({ logout_token: token }).toString(),
      },
    )
  const ofSession = (sid: string, sub = user): Promise<string> =>
    issuer.sign({ aud: RESOURCES.notes, org: 'acme', sub, sid } as never)

  it("fault 68, promise 4: ends the session that it names and nothing else; one that names the user alone ends all that the user has; others' are refused", async () => {
    const [ended, others] = [await ofSession(`s1 of ${user}`), await ofSession(`s2 of ${user}`)]
    const bobs = await ofSession(`s3 of ${user}`, bob)
    expect([await exchange(ended), await exchange(others), await exchange(bobs)]).toEqual(['given', 'given', 'given'])
    const foreign = await new SignJWT({ aud: 'deputy', sid: `s1 of ${user}`, jti: 'x', events: { [LOGOUT]: {} } })
      .setProtectedHeader({ alg: 'ES256', kid: 'key', typ: 'logout+jwt' })
      .setIssuer(issuer.url)
      .setIssuedAt()
      .sign(aKeyPair().privateKey)
    const now = Math.floor(Date.now() / 1000)
    const refused: [string, string?][] = [
      [await logoutToken({ sid: `s1 of ${user}`, aud: 'another' })],
      [await logoutToken({ sid: `s1 of ${user}`, nonce: 'n' })],
      [await logoutToken({ sid: `s1 of ${user}`, events: {} })],
      [await logoutToken({ sid: `s1 of ${user}`, events: { [LOGOUT]: 1 } })],
      [await logoutToken({ sid: `s1 of ${user}`, jti: undefined })],
      [await logoutToken({ sid: `s1 of ${user}`, exp: now - 60 })],
      [await logoutToken({ sid: `s1 of ${user}`, iat: now - 7200 })],
      [await logoutToken({ sid: `s1 of ${user}`, iat: now + 600 })],
      [await logoutToken({ sub: undefined })],
      [await logoutToken({ sid: `s1 of ${user}` }, { typ: 'at+jwt' })],
      [await logoutToken({ sid: `s1 of ${user}` }, {}, other)],
      [foreign],
      [new UnsecuredJWT({ iss: issuer.url, aud: 'deputy', sid: `s1 of ${user}`, events: { [LOGOUT]: {} } }).encode()],
      ['no token'],
      [''],
      [ended],
      [await logoutToken({ sid: `s1 of ${user}` }), 'globex'],
      [await logoutToken({ sid: `s1 of ${user}` }), 'nobody'],
    ]
    for (const [token, tenant] of refused) expect([token, (await logOut(token, tenant)).status]).toEqual([token, 400])
    expect(await exchange(ended)).toBe('given')
    const token = await logoutToken({ sid: `s1 of ${user}` })
    expect([(await logOut(token)).status, (await logOut(token)).status]).toEqual([200, 200])
    expect([await exchange(ended), await exchange(others), await exchange(bobs)]).toEqual(['revoked', 'given', 'given'])
    expect((await revocations()).length).toBe(1)
    // Before explicit types it was a plain JWT.
    expect((await logOut(await logoutToken({}, { typ: 'JWT' }))).status).toBe(200)
    expect([await exchange(others), await exchange(bobs)]).toEqual(['revoked', 'given'])
    // A logout token is no token of a user.
    expect(await exchange(await logoutToken({ aud: RESOURCES.notes, org: 'acme' }))).not.toBe('given')
  })
})
