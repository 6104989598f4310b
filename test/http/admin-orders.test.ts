/** Orders of the admin API whose record no sink confirms: the answer says whether the order holds. */
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { refuse } from '../../src/errors.ts'
import { createAdminApi } from '../../src/listeners/admin-api/index.ts'
import { ask } from '../support/daemon.ts'

const done: string[] = []
const append = () => Promise.reject(refuse('audit_unavailable', { sink: 'http siem', problem: 'it answered 503' }))
const server = createServer(
  createAdminApi({
    audit: { append },
    by: () => 'root',
    correlationId: () => '01test',
    rotateKeys: () => {
      done.push('rotated')
      return Promise.resolve({ kid: 'a', kids: { token: 'a', checkpoint: 'b' } })
    },
    snapshot: () => ({ tenants: new Map() }),
    store: {
      losses: {
        acknowledge: () => {
          done.push('acknowledged')
          return Promise.resolve(1)
        },
      },
    },
    revoker: {
      revoke: () => {
        done.push('revoked')
        return append()
      },
    },
  } as unknown as Parameters<typeof createAdminApi>[0]),
)
beforeAll(async () => {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
})
afterAll(() => {
  server.close()
})

test.each([
  ['/keys/rotate', { keys: 'signing' }, 'order_unrecorded', 'The order was carried out and holds', ['rotated']],
  [
    '/revoke',
    { scope: { kind: 'everything' } },
    'order_unrecorded',
    'The order was carried out and holds',
    ['revoked'],
  ],
  ['/losses/acknowledge', { losses: ['x'] }, 'order_not_begun', 'The order was not carried out', []],
])('promise 3: %s says whether it holds', async (path, body, reason, sentence, left) => {
  done.length = 0
  const { port } = server.address() as AddressInfo
  const answer = await ask(
    { port },
    {
      path,
      body: JSON.stringify(body),
      headers: { host: 'localhost', 'content-type': 'application/json' },
    },
  )
  expect([answer.status, answer.body, done]).toEqual([
    503,
    expect.objectContaining({
      reason,
      error_description: expect.stringContaining(sentence),
      correlation_id: '01test',
    }),
    left,
  ])
  expect(answer.text).toContain('http siem')
})
