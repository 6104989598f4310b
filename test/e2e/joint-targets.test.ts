import { randomUUID } from 'node:crypto'
import { calculateJwkThumbprint, decodeJwt, exportJWK, generateKeyPair, SignJWT } from 'jose'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { aCompany, LEDGER, RESOURCES } from '../support/configuration.ts'
import {
  ACCESS_TOKEN,
  ask as request,
  startDaemonHere,
  startTestIssuer,
  TOKEN_EXCHANGE,
  type Answer,
  type RunningDaemon,
  type TestIssuer,
} from '../support/daemon.ts'

const VAULT_API = 'https://vault-api.example'

let issuer: TestIssuer
let daemon: RunningDaemon
beforeAll(async () => {
  issuer = await startTestIssuer()
  daemon = await startDaemonHere({
    ...aCompany({
      issuer: issuer.url,
      notes: {
        downstreams: {
          ledger: { scopes: ['ledger:read', 'ledger:write'] },
          agent: { scopes: ['chat'] },
          loose: { scopes: ['ledger:write', 'chat'] },
          bound: { scopes: ['chat'] },
          plain: {},
        },
      },
    }),
    // Its policy limits no scope.
    'downstreams/loose.yaml': {
      downstream: 'loose',
      credential: 'minted',
      resource: 'https://loose.example',
      scopes: { 'ledger:write': 'Write', chat: 'Talk' },
    },
    'downstreams/bound.yaml': {
      downstream: 'bound',
      credential: 'minted',
      resource: VAULT_API,
      bound: 'dpop',
      scopes: { chat: 'Talk' },
    },
    // A file that lists no scope: what a scope would mean there is unknown.
    'downstreams/plain.yaml': { downstream: 'plain', credential: 'minted', resource: 'https://plain.example' },
    'policies/access/more.cedar': `
@id("loose-and-bound")
permit (principal is Deputy::User, action == Deputy::Action::"minted", resource)
when { resource == Deputy::Downstream::"loose" || resource == Deputy::Downstream::"bound" || resource == Deputy::Downstream::"plain" };`,
  })
})
afterAll(async () => {
  await daemon?.close()
  await issuer?.close()
})

interface Wish {
  readonly audience?: readonly string[]
  readonly resource?: readonly string[]
  readonly scope?: string
}
const ask = async (user: string, groups: readonly string[], wish: Wish, token?: string): Promise<Answer> => {
  const form = new URLSearchParams({
    grant_type: TOKEN_EXCHANGE,
    subject_token: token ?? (await issuer.sign({ aud: RESOURCES.notes, org: 'acme', sub: user, groups })),
    subject_token_type: ACCESS_TOKEN,
    ...(wish.scope === undefined ? {} : { scope: wish.scope }),
  })
  for (const audience of wish.audience ?? []) form.append('audience', audience)
  for (const resource of wish.resource ?? []) form.append('resource', resource)
  return daemon.token(form)
}
const claimsOf = ({ body }: Answer) => decodeJwt(String(body['access_token']))

describe('a token for several downstreams', () => {
  it('fault 1, promise 1: is refused where policy forbids any of them, in whichever order and by whichever name they come', async () => {
    // Bob is in no group: policy lets him talk to the agent, and keeps him from the ledger.
    for (const wish of [
      { audience: ['ledger', 'agent'] },
      { audience: ['agent', 'ledger'] },
      { audience: ['agent'], resource: [LEDGER] },
      { audience: ['ledger'], resource: [RESOURCES.agent] },
      { resource: [RESOURCES.agent, LEDGER] },
      { audience: ['loose', 'ledger'], scope: 'ledger:write' },
    ]) {
      const { status, body } = await ask('bob', [], wish)
      expect([status, body['reason'], body['access_token']]).toEqual([403, 'policy_denied', undefined])
      expect(String(body['error_description'])).toContain('ledger')
    }
    expect((await ask('bob', [], { audience: ['agent'] })).status).toBe(200)
  })

  it('fault 1, promise 1, threat 24: has a scope only where each of them that knows it allows it', async () => {
    // Engineers read the ledger; the other downstream would let them write.
    const written = await ask('ada', ['engineering'], { audience: ['loose', 'ledger'], scope: 'ledger:write chat' })
    expect([written.status, written.body['error'], written.body['access_token']]).toEqual([
      403,
      'access_denied',
      undefined,
    ])
    const { status, body } = await ask('ada', ['accounting'], { audience: ['agent', 'ledger'] })
    expect([status, body['scope']]).toEqual([200, 'chat ledger:read ledger:write'])
    const both = await ask('ada', ['accounting'], { audience: ['loose', 'agent'], scope: 'chat ledger:write' })
    expect(both.body['scope']).toBe('chat ledger:write')
    expect((await ask('ada', [], { audience: ['agent', 'plain'] })).body).toMatchObject({
      error: 'invalid_target',
      reason: 'targets_share_no_scope',
    })
    // The ledger's registration does not have this scope, and its file says that no such scope exists.
    expect((await ask('ada', ['accounting'], { audience: ['loose', 'ledger'], scope: 'chat' })).body).toMatchObject({
      error: 'invalid_scope',
    })
  })

  it('fault 1: is bound to a key where any of them demands it', async () => {
    for (const audience of [
      ['agent', 'bound'],
      ['bound', 'agent'],
    ])
      expect((await ask('ada', [], { audience, scope: 'chat' })).body).toMatchObject({ reason: 'proof_missing' })
    const { publicKey, privateKey } = await generateKeyPair('ES256')
    const jwk = await exportJWK(publicKey)
    const form = new URLSearchParams({
      grant_type: TOKEN_EXCHANGE,
      subject_token: await issuer.sign({ aud: RESOURCES.notes, org: 'acme', sub: 'ada' }),
      subject_token_type: ACCESS_TOKEN,
      scope: 'chat',
    })
    for (const audience of ['agent', 'bound']) form.append('audience', audience)
    const answer = await daemon.token(form, {
      dpop: await new SignJWT({ htm: 'POST', htu: `http://127.0.0.1:${daemon.port}/oauth2/token`, jti: randomUUID() })
        .setProtectedHeader({ alg: 'ES256', typ: 'dpop+jwt', jwk })
        .setIssuedAt()
        .sign(privateKey),
    })
    expect(claimsOf(answer)['cnf']).toEqual({ jkt: await calculateJwkThumbprint(jwk) })
  })

  it('fault 1, promises 3 and 4: names all of them in its record, and is not handed out after one of them is revoked', async () => {
    const token = await issuer.sign({ aud: RESOURCES.notes, org: 'acme', sub: 'carol', groups: ['accounting'] })
    const wish = { audience: ['agent', 'ledger'], scope: 'chat ledger:read' }
    const first = await ask('carol', [], wish, token)
    expect(claimsOf(await ask('carol', [], wish, token)).jti).toBe(claimsOf(first).jti)
    const { out } = await daemon.deputy('audit', 'query', '--downstream', 'ledger', '--user', 'carol', '--json')
    expect(out).toContain(String(claimsOf(first).jti))
    expect((await daemon.deputy('revoke', '--downstream', 'ledger', '--yes')).code).toBe(0)
    expect((await ask('carol', [], wish, token)).body).toMatchObject({ reason: 'revoked' })
    expect((await ask('carol', [], { audience: ['agent'] }, token)).status).toBe(200)
  })
})

describe('a minted token that was revoked by its id', () => {
  it.each(['the command', 'the endpoint'])(
    'fault 2, promise 4: is not handed out again by the cache, nor after a restart, when it was revoked by %s',
    async (by) => {
      const token = await issuer.sign({ aud: RESOURCES.notes, org: 'acme', sub: 'dave' })
      const next = async (): Promise<{ jti: string; text: string }> => {
        const answer = await ask('dave', [], { audience: ['agent'] }, token)
        return { jti: claimsOf(answer).jti!, text: String(answer.body['access_token']) }
      }
      const revoked = await next()
      expect((await next()).jti).toBe(revoked.jti)
      if (by === 'the command') expect((await daemon.deputy('revoke', '--token', revoked.jti, '--yes')).code).toBe(0)
      else {
        const { status } = await request(
          { socketPath: daemon.socketPath },
          {
            path: '/oauth2/revoke',
            headers: { 'content-type': 'application/x-www-form-urlencoded' },
            body: new URLSearchParams({ token: revoked.text }).toString(),
          },
        )
        expect(status).toBe(200)
      }
      const later = await next()
      expect(later.jti).not.toBe(revoked.jti)
      if (by === 'the endpoint') return
      await daemon.stop()
      await daemon.start()
      expect((await next()).jti).not.toBe(revoked.jti)
    },
  )
})
