import { inflateSync } from 'node:zlib'
import * as fc from 'fast-check'
import { createLocalJWKSet, decodeJwt, jwtVerify, type JSONWebKeySet } from 'jose'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { createSystemRandom } from '../../src/clock.ts'
import {
  createStatusIndex,
  readListName,
  STATUS_LIST_BITS,
} from '../../src/credentials/connector/minted/status-index.ts'
import { aCompany, RESOURCES } from '../support/configuration.ts'
import {
  ACCESS_TOKEN,
  ask,
  startDaemonHere,
  startTestIssuer,
  TOKEN_EXCHANGE,
  type DaemonHere,
  type TestIssuer,
} from '../support/daemon.ts'
import { aClock } from '../support/snapshot.ts'

let issuer: TestIssuer
let daemon: DaemonHere
beforeAll(async () => {
  issuer = await startTestIssuer()
})
afterAll(async () => {
  await issuer?.close()
})

interface Status {
  readonly uri: string
  readonly idx: number
}
const minted = async (user: string): Promise<{ token: string; status: Status; jti: string }> => {
  const { status, body } = await daemon.token({
    grant_type: TOKEN_EXCHANGE,
    subject_token: await issuer.sign({ aud: RESOURCES.notes, org: 'acme', sub: user }),
    subject_token_type: ACCESS_TOKEN,
    audience: 'ledger',
    scope: 'ledger:read',
  })
  expect(status).toBe(200)
  const token = String(body['access_token'])
  const claims = decodeJwt(token)
  return { token, jti: claims.jti!, status: (claims['status'] as { status_list: Status }).status_list }
}
/** As a service that knows nothing of Deputy but its key set reads it: https://datatracker.ietf.org/doc/draft-ietf-oauth-status-list/ section 8.3. */
const bitOf = async ({ uri, idx }: Status): Promise<number> => {
  const answer = await ask({ port: daemon.port }, { path: new URL(uri).pathname })
  expect([answer.status, answer.headers['content-type']]).toEqual([200, 'application/statuslist+jwt'])
  const keys = JSON.parse((await ask({ port: daemon.port }, { path: '/.well-known/jwks.json' })).text) as JSONWebKeySet
  const { payload, protectedHeader } = await jwtVerify(answer.text, createLocalJWKSet(keys), {
    typ: 'statuslist+jwt',
    subject: uri,
  })
  expect(protectedHeader.alg).toBe('ES256')
  const { bits, lst } = payload['status_list'] as { bits: number; lst: string }
  expect([bits, typeof payload.exp, typeof payload['ttl']]).toEqual([1, 'number', 'number'])
  return (inflateSync(Buffer.from(lst, 'base64url'))[idx >> 3]! >> (idx & 7)) & 1
}
/** The list may be kept for as long as it says; here it is read past what the daemon keeps. */
const later = (): Promise<void> =>
  new Promise((resolve) => {
    setTimeout(resolve, 600)
  })

describe('the status list of minted tokens', () => {
  beforeEach(async () => {
    daemon = await startDaemonHere(aCompany({ issuer: issuer.url }))
  })
  afterEach(async () => {
    await daemon?.close()
  })

  it('promise 4: has a bit for each token, which tells of a revocation, also after a restart', async () => {
    const { kill } = await daemon.moveToProcess()
    const [alice, bob, carol] = [await minted('alice'), await minted('bob'), await minted('carol')]
    expect(await Promise.all([alice, bob, carol].map(({ status }) => bitOf(status)))).toEqual([0, 0, 0])
    await daemon.deputy('revoke', '--tenant', 'acme', '--user', 'alice')
    await daemon.deputy('revoke', '--token', bob.jti)
    await later()
    expect([await bitOf(alice.status), await bitOf(bob.status), await bitOf(carol.status)]).toEqual([1, 1, 0])
    await kill()
    await daemon.start()
    expect([await bitOf(alice.status), await bitOf(bob.status), await bitOf(carol.status)]).toEqual([1, 1, 0])
    await daemon.deputy('tenant', 'freeze', '--tenant', 'acme')
    await later()
    expect(await bitOf(carol.status)).toBe(1)
  })

  it('is there for the lists that are, and for no other', async () => {
    const { status } = await minted('alice')
    for (const name of [
      'x',
      `${new URL(status.uri).pathname.slice('/status/'.length)}x`,
      'local~zzzzzzzzz~AAAAAAAA',
      'local~000001~AAAAAAAA',
      '..%2fconnect',
    ]) {
      expect((await ask({ port: daemon.port }, { path: `/status/${name}` })).status).toBe(404)
    }
  })
})

describe('the place of a token in a list', () => {
  it('is of that token alone', () => {
    const next = createStatusIndex({ node: 'a', period: 600_000, clock: aClock(), random: createSystemRandom() })
    const places = Array.from({ length: 20_000 }, () => next())
    expect(new Set(places.map(({ list, index }) => `${list} ${index}`)).size).toBe(20_000)
    expect(new Set(places.map(({ list }) => list)).size).toBe(1)
    // It says nothing about the order: neighbours are as far apart as chance has it.
    expect(places.every(({ index }) => index >= 0 && index < STATUS_LIST_BITS)).toBe(true)
    expect(Math.max(...places.slice(0, 100).map(({ index }) => index))).toBeGreaterThan(STATUS_LIST_BITS / 2)
  })

  it('is in a new list when the time of one is over', () => {
    const clock = aClock()
    const next = createStatusIndex({ node: 'a', period: 1000, clock, random: createSystemRandom() })
    const first = next().list
    clock.forward(999)
    expect(next().list).toBe(first)
    clock.forward(1)
    expect(next().list).not.toBe(first)
  })

  it('has a name that says whose the list is and when it began, and nothing else is taken for one', () => {
    fc.assert(
      fc.property(
        fc.stringMatching(/^[a-z0-9][a-z0-9._-]{0,30}$/),
        fc.integer({ min: 1_600_000_000_000, max: 4_000_000_000_000 }),
        (node, now) => {
          expect(
            readListName(
              createStatusIndex({ node, period: 1000, clock: { now: () => now }, random: createSystemRandom() })().list,
            ),
          ).toEqual({ node, startedAt: now })
        },
      ),
    )
    fc.assert(
      fc.property(fc.string(), (text) => {
        const read = readListName(text)
        if (read !== undefined) expect(Number.isSafeInteger(read.startedAt)).toBe(true)
      }),
    )
  })
})
