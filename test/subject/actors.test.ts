import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { Server } from '../../src/config/server.ts'
import type { Snapshot } from '../../src/config/snapshot.ts'
import { ACCESS_TOKEN_TYPE } from '../../src/oauth/token-type.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import type { VerifiedSubject } from '../../src/identity/subject/subject.ts'
import { anIssuerKey, startIssuerDouble, type IssuerDouble } from '../doubles/issuer.ts'
import { aClock, aServer, aSnapshot, aTenant } from '../support/snapshot.ts'
import { OWN_ISSUER, startSubjects, type Subjects } from '../support/subjects.ts'

const notes = aServer({ tenants: '*' })
const agent = aServer({ server: 'agent', resource: 'https://agent.example/mcp', tenants: '*' })
const clock = aClock()
let snapshot: Snapshot
let issuer: IssuerDouble
let other: IssuerDouble
let subjects: Subjects
beforeAll(async () => {
  issuer = await startIssuerDouble(clock.now)
  other = await startIssuerDouble(clock.now)
  subjects = await startSubjects({ snapshot: () => snapshot, clock })
})
afterAll(async () => {
  await subjects?.close()
  await issuer?.close()
  await other?.close()
})
beforeEach(() => {
  snapshot = aSnapshot({
    servers: [notes, agent],
    tenants: [
      aTenant({ issuers: [{ issuer: issuer.url }] }),
      aTenant({ tenant: 'globex', issuers: [{ issuer: other.url }] }),
    ],
  })
})

interface More {
  server?: Server
  actorToken?: string
  actorTokenType?: string
}
const verify = (
  token: string,
  { server = notes, actorToken, actorTokenType = ACCESS_TOKEN_TYPE }: More = {},
): Promise<VerifiedSubject> =>
  subjects.verifier.verify({
    token: new Secret(token),
    tokenType: ACCESS_TOKEN_TYPE,
    server,
    ...(actorToken === undefined ? {} : { actorToken: new Secret(actorToken), actorTokenType }),
  })
const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'accepted',
    (error: { code: string }) => error.code,
  )
const outcome = async (claims: object, more: More = {}): Promise<string> =>
  codeOf(verify(await issuer.sign(claims), more))

describe('threat 13: delegation that a token carries', () => {
  it('threat 13: may_act lets the actor that it names, and nobody else', async () => {
    expect(await outcome({ may_act: { sub: 'notes' } })).toBe('accepted')
    expect(await outcome({ may_act: { sub: 'service-7', client_id: 'notes' } })).toBe('accepted')
    expect(await outcome({ may_act: { sub: 'agent' } })).toBe('actor_mismatch')
    expect(await outcome({ may_act: { sub: 'NOTES' } })).toBe('actor_mismatch')
    expect(await outcome({ may_act: {} })).toBe('subject_token_invalid')
    expect(await outcome({ may_act: { sub: 'agent' }, act: { sub: 'notes' } })).toBe('actor_mismatch')
  })

  it('threat 13: act lets the current actor, and none of those before it', async () => {
    expect(await outcome({ act: { sub: 'notes' } })).toBe('accepted')
    expect(await outcome({ act: { sub: 'agent' } })).toBe('actor_mismatch')
    expect(await outcome({ act: { sub: 'agent', act: { sub: 'notes' } } })).toBe('actor_mismatch')
  })

  it('threat 13: says who was expected and who came', async () => {
    await expect(verify(await issuer.sign({ act: { sub: 'agent' } }))).rejects.toMatchObject({
      facts: { expected: 'agent', actual: 'notes' },
    })
  })

  it('threat 13: is looked at again for each server, however often the token was seen', async () => {
    const token = await issuer.sign({ aud: [notes.resource, agent.resource], act: { sub: 'notes' } })
    expect(await codeOf(verify(token))).toBe('accepted')
    expect(await codeOf(verify(token, { server: agent }))).toBe('actor_mismatch')
  })

  it('requirement 20: actors are told outermost first, without what does not belong there', async () => {
    const { actors } = await verify(
      await issuer.sign({
        act: { sub: 'notes', iss: 'https://a.example', exp: 1, aud: 'x', act: { sub: 'gateway', client_id: 'g' } },
      }),
    )
    expect(actors).toEqual([
      { sub: 'notes', iss: 'https://a.example' },
      { sub: 'gateway', client_id: 'g' },
    ])
  })

  it('requirement 20: a chain too long to be told is refused, not cut off', async () => {
    const chain = (length: number): object =>
      length === 1 ? { sub: 'notes' } : { sub: 'notes', act: chain(length - 1) }
    expect(await outcome({ act: chain(10) })).toBe('accepted')
    expect(await outcome({ act: chain(11) })).toBe('subject_token_invalid')
    expect(await outcome({ act: chain(400) })).toBe('subject_token_invalid')
  })
})

describe('an actor token', () => {
  it('of an issuer of the same tenant proves the server that calls', async () => {
    for (const claims of [{ sub: 'notes' }, { sub: 'service-7', client_id: 'notes' }])
      expect(await outcome({}, { actorToken: await issuer.sign({ aud: 'https://deputy.example', ...claims }) })).toBe(
        'accepted',
      )
    expect(
      await outcome(
        { may_act: { sub: 'service-7' } },
        { actorToken: await issuer.sign({ sub: 'service-7', client_id: 'notes' }) },
      ),
    ).toBe('accepted')
  })

  it('threat 13: about another party, of another tenant, or not verifiable, is refused', async () => {
    const bad = {
      'about the user': await issuer.sign({ sub: 'alice' }),
      'of another server': await issuer.sign({ sub: 'agent' }),
      'of another tenant': await other.sign({ sub: 'notes' }),
      expired: await issuer.sign({ sub: 'notes', exp: Math.floor(clock.now() / 1000) - 1 }),
      'signed by nobody': await issuer.sign({ sub: 'notes' }, {}, anIssuerKey()),
      'no access token': await issuer.sign({ sub: 'notes' }, { typ: 'dpop+jwt' }),
      opaque: 'opaque',
      empty: '',
      'too long': await issuer.sign({ sub: 'notes', filler: 'x'.repeat(20_000) }),
      'of an unknown issuer': await issuer.sign({ sub: 'notes', iss: 'https://evil.example' }),
      'without a subject': await issuer.sign({ sub: 7 }),
      'its audience is neither Deputy nor the calling server': await issuer.sign({
        sub: 'notes',
        aud: 'https://elsewhere.example',
      }),
    }
    clock.forward(11_000)
    for (const [why, actorToken] of Object.entries(bad))
      expect([why, await outcome({}, { actorToken })]).toEqual([why, 'actor_token_invalid'])
    expect(
      await outcome(
        {},
        { actorToken: await issuer.sign({ sub: 'notes' }), actorTokenType: 'urn:ietf:params:oauth:token-type:saml2' },
      ),
    ).toBe('actor_token_invalid')
  })

  it('threat 13: is looked at also when the subject token was seen without one', async () => {
    const token = await issuer.sign({})
    expect(await codeOf(verify(token))).toBe('accepted')
    expect(await codeOf(verify(token, { actorToken: await issuer.sign({ sub: 'agent' }) }))).toBe('actor_token_invalid')
  })

  it('that Deputy minted for the server itself counts, one minted for a user or another server does not', async () => {
    const audiences = ['https://ledger.example']
    expect(await outcome({}, { actorToken: await subjects.mint({ server: notes, audiences }) })).toBe('accepted')
    for (const actorToken of [
      await subjects.mint({ server: notes, audiences, user: 'alice' }),
      await subjects.mint({ server: notes, audiences, user: 'notes' }),
      await subjects.mint({ server: agent, audiences }),
      await subjects.mint({ server: notes, tenant: 'globex', audiences }),
    ]) {
      expect(await outcome({}, { actorToken })).toBe('actor_token_invalid')
    }
  })
})

describe('a token that Deputy minted', () => {
  it('requirement 20: for the calling server is the next link of the chain', async () => {
    const token = await subjects.mint({
      server: notes,
      user: 'alice',
      audiences: [agent.resource],
      priorActors: [{ sub: 'gateway' }],
      ancestors: ['parent', 'grandparent'],
    })
    expect(await verify(token, { server: agent })).toMatchObject({
      tenant: { tenant: 'acme' },
      user: 'alice',
      issuer: OWN_ISSUER,
      ancestors: ['parent', 'grandparent'],
      actors: [{ sub: 'notes' }, { sub: 'gateway' }],
      how: 'jwt',
    })
  })

  it('promise 2: for another server is refused, also to the one that it was minted by', async () => {
    const token = await subjects.mint({ server: notes, user: 'alice', audiences: [agent.resource] })
    expect(await codeOf(verify(token, { server: notes }))).toBe('subject_audience_mismatch')
  })

  it('threat 12: for a server itself stands for no user', async () => {
    expect(
      await codeOf(verify(await subjects.mint({ server: notes, audiences: [agent.resource] }), { server: agent })),
    ).toBe('subject_token_invalid')
  })

  it('ends, and cannot be changed or made up', async () => {
    const token = await subjects.mint({
      server: notes,
      user: 'alice',
      audiences: [agent.resource],
      notAfter: clock.now() + 30_000,
    })
    expect(await codeOf(verify(token, { server: agent }))).toBe('accepted')
    const [header, payload, signature] = token.split('.') as [string, string, string]
    const forged = Buffer.from(
      JSON.stringify({ ...(JSON.parse(Buffer.from(payload, 'base64url').toString()) as object), sub: 'bob' }),
    ).toString('base64url')
    expect(await codeOf(verify(`${header}.${forged}.${signature}`, { server: agent }))).toBe('subject_token_invalid')
    expect(
      await codeOf(
        verify(
          await issuer.sign({
            iss: OWN_ISSUER,
            aud: agent.resource,
            tenant: 'acme',
            client_id: 'notes',
            act: { sub: 'notes' },
          }),
          { server: agent },
        ),
      ),
    ).toBe('subject_token_invalid')
    clock.forward(31_000)
    expect(await codeOf(verify(token, { server: agent }))).toMatch(/^subject_token_(expired|invalid)$/)
  })

  it('of a tenant that was disabled meanwhile is refused', async () => {
    const token = await subjects.mint({ server: notes, user: 'alice', audiences: [agent.resource] })
    snapshot = aSnapshot({ servers: [agent], tenants: [aTenant({ enabled: false })] })
    expect(await codeOf(verify(token, { server: agent }))).toBe('subject_tenant_unknown')
  })
})
