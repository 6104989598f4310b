/** Back-channel logouts and security events at their listeners: what holds up whom, and for how long an end is remembered. */
import { createPublicKey } from 'node:crypto'
import { once } from 'node:events'
import { createServer, request, type ClientRequest, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import express, { type Router } from 'express'
import { SignJWT } from 'jose'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createFingerprint } from '../../src/foundation/crypto/fingerprint.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { createBackChannelLogout } from '../../src/listeners/security-events/back-channel-logout.ts'
import { ConcurrencyLimit } from '../../src/listeners/security-events/concurrency-limit.ts'
import { createSignalReceiver } from '../../src/listeners/security-events/receiver.ts'
import { aKeyPair, ask } from '../support/daemon.ts'
import { aClock, aSnapshot, aTenant } from '../support/snapshot.ts'

const [SLOW, FAST] = ['https://slow.example', 'https://fast.example']
const AUDIENCE = 'https://deputy.example/signals'
const { privateKey } = aKeyPair()
const clock = aClock()
const silent = (): undefined => undefined
const logger = { trace: silent, debug: silent, info: silent, warn: silent, error: silent } as never

const tenantOf = (tenant: string, issuer: string, more: object = {}) =>
  aTenant({
    tenant,
    issuers: [{ issuer, session_lifetime: '2d' }],
    sign_in: { issuer, client_id: 'deputy' },
    signals: [{ issuer, audience: AUDIENCE, token: { file: 'token' }, session_revoked: 'session' }],
    ...more,
  })

const signed = (type: string, claims: object, iss: string): Promise<string> =>
  new SignJWT({ jti: crypto.randomUUID(), ...claims })
    .setProtectedHeader({ alg: 'ES256', typ: type })
    .setIssuer(iss)
    .setIssuedAt(Math.floor(clock.now() / 1000))
    .sign(privateKey)
const logoutToken = (iss: string): Promise<string> =>
  signed(
    'logout+jwt',
    { aud: 'deputy', sid: 's1', events: { 'http://schemas.openid.net/event/backchannel-logout': {} } },
    iss,
  )
const eventToken = (iss: string): Promise<string> =>
  signed(
    'secevent+jwt',
    {
      aud: AUDIENCE,
      sub_id: {
        format: 'complex',
        user: { format: 'iss_sub', iss, sub: 'alice' },
        session: { format: 'opaque', id: 's' },
      },
      events: { 'https://schemas.openid.net/secevent/caep/event-type/session-revoked': {} },
    },
    iss,
  )

describe('signals of identity providers', () => {
  let server: Server
  let port: number
  let ends: { tokenExpiresAt?: number }[]
  /** Called when the slow issuer's key is asked for. */
  let onSlow: () => void
  beforeEach(async () => {
    ends = []
    onSlow = silent
    const snapshot = aSnapshot({ tenants: [tenantOf('slow', SLOW), tenantOf('fast', FAST)] })
    const deps = {
      snapshot: () => snapshot,
      keys: ({ issuer }: { issuer: string }) =>
        Object.assign(
          () => {
            if (issuer === FAST) return Promise.resolve(createPublicKey(privateKey))
            onSlow()
            return new Promise<never>(silent)
          },
          { reread: () => Promise.resolve(false) },
        ),
      revoker: {
        revoke: (order: { tokenExpiresAt?: number }) => {
          ends.push(order)
          return Promise.resolve({})
        },
      },
      replays: {
        has: () => Promise.resolve(false),
        claim: () => Promise.resolve(true),
        sweep: () => Promise.resolve(0),
      },
      resolveSecret: () => Promise.resolve(new Secret('said')),
      audit: { append: () => Promise.resolve() },
      namesSessions: () => Promise.resolve(true),
      fingerprint: createFingerprint(new Secret(Buffer.alloc(32, 1).toString('base64'))),
      clock,
      logger,
      correlationId: () => 'id',
    } as never
    const routers: Record<string, Router> = {
      '/logout': createBackChannelLogout(deps),
      '/signals': createSignalReceiver(deps),
    }
    const app = express()
    for (const [path, router] of Object.entries(routers)) app.use(path, router)
    server = createServer(app as RequestListener).listen(0, '127.0.0.1')
    await once(server, 'listening')
    port = (server.address() as AddressInfo).port
  })
  afterEach(async () => {
    server.closeAllConnections()
    server.close()
  })

  const headersOf = (path: string): Record<string, string> =>
    path === '/logout'
      ? { 'content-type': 'application/x-www-form-urlencoded' }
      : { 'content-type': 'application/secevent+jwt', authorization: 'Bearer said' }
  const bodyOf = async (path: string, issuer: string): Promise<string> =>
    path === '/logout' ? `logout_token=${await logoutToken(issuer)}` : eventToken(issuer)
  const post = async (path: string, issuer: string): Promise<number> => {
    const tenant = issuer === SLOW ? 'slow' : 'fast'
    const body = await bodyOf(path, issuer)
    return (await ask({ port }, { path: `${path}/${tenant}`, headers: headersOf(path), body })).status
  }

  it.each([
    ['/logout', 200],
    ['/signals', 202],
  ])(
    'fault 68: an issuer whose keys are slow holds up no other, and has its own further posts tried again later: %s',
    async (path, taken) => {
      let waiting = 0
      const full = new Promise<void>((resolve) => {
        onSlow = () => {
          if ((waiting += 1) === 16) resolve()
        }
      })
      const hanging = Array.from({ length: 16 }, () => post(path, SLOW).catch(() => 0))
      await full
      expect(await post(path, SLOW)).toBe(503)
      expect(await post(path, FAST)).toBe(taken)
      server.closeAllConnections()
      await Promise.all(hanging)
    },
  )

  it('fault 68: a post whose body does not come takes no place', async () => {
    const open: ClientRequest[] = []
    for (let at = 0; at < 20; at += 1) {
      const slow = request({
        port,
        host: '127.0.0.1',
        method: 'POST',
        path: '/signals/fast',
        headers: { ...headersOf('/signals'), 'content-length': '100' },
      })
      slow.on('error', silent)
      slow.flushHeaders()
      await once(slow, 'socket')
      open.push(slow)
    }
    expect(await post('/signals', FAST)).toBe(202)
    for (const each of open) each.destroy()
  })

  it('fault 68: the end of a session is remembered for as long as a token of it counts', async () => {
    expect([await post('/logout', FAST), await post('/signals', FAST)]).toEqual([200, 202])
    expect(ends.map(({ tokenExpiresAt }) => tokenExpiresAt)).toEqual([
      clock.now() + 2 * 86_400_000,
      clock.now() + 2 * 86_400_000,
    ])
  })

  it('places are given back once work is over, and are counted in all', () => {
    const limit = new ConcurrencyLimit({ total: 3, each: 2 })
    const [one, two] = [limit.acquire('a'), limit.acquire('a')]
    expect([one, two, limit.acquire('a')]).toEqual([expect.any(Function), expect.any(Function), undefined])
    const three = limit.acquire('b')
    expect(limit.acquire('c')).toBeUndefined()
    three!()
    one!()
    expect([limit.acquire('c'), limit.acquire('a'), limit.acquire('b')]).toEqual([
      expect.any(Function),
      expect.any(Function),
      undefined,
    ])
  })
})
