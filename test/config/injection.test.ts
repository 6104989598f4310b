import { describe, expect, it } from 'vitest'
import { downstreamSchema, type Downstream } from '../../src/config/downstream.ts'
import { placeOf } from '../../src/config/inject.ts'
import { injectionProblems, sharedHosts } from '../../src/config/checks/injection.ts'
import type { Problem } from '../../src/config/problem.ts'
import { aServer } from '../support/snapshot.ts'

const HOST = 'https://api.example'
const aDownstream = (inject: object, more: object = {}): Downstream =>
  downstreamSchema.parse({
    downstream: 'api',
    ...('credential' in more ? {} : { credential: 'static', secret: 'key' }),
    inject: { hosts: [HOST], as: { header: 'X-Key' }, ...inject },
    ...more,
  })
const located = <Value>(value: Value) => ({ value, file: 'downstreams/api.yaml', lineOf: () => 7 })
const problems = (inject: object, more: object = {}): Problem[] =>
  injectionProblems(located(aDownstream(inject, more)), (host) => host === '127.0.0.1')

describe('`inject` of a downstream', () => {
  it('is one way or several, and says less than it means', () => {
    expect(aDownstream({}).inject).toEqual({
      hosts: [HOST],
      methods: ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'],
      as: [{ header: 'X-Key', value: '{credential}' }],
      redact_response: true,
      only: false,
    })
    expect(aDownstream({ hosts: ['HTTPS://API.Example:443/', 'https://[::1]:8443'] }).inject!.hosts).toEqual([
      HOST,
      'https://[::1]:8443',
    ])
  })

  it.each([
    { hosts: [] },
    { hosts: ['https://api.example/v1'] },
    { hosts: ['api.example'] },
    { hosts: ['https://user@api.example'] },
    { hosts: ['https://api.example?x'] },
    { hosts: ['ftp://api.example'] },
    { hosts: ['https://api.example/#x'] },
    { methods: ['CONNECT'] },
    { methods: ['TRACE'] },
    { methods: [] },
    { paths: ['repos'] },
    { paths: ['/a?b'] },
    { paths: ['/a b'] },
    { as: [] },
    { as: { header: 'X Key' } },
    { as: { header: 'X:Key' } },
    { as: { path: '{token}' } },
    { as: { body: 'a b c d' } },
    { as: { query: '' } },
    { as: { basic: { user: 'a:b' } } },
    { as: { header: 'X-Key', query: 'k' } },
    { anything: true },
  ])('is refused as %j', (inject) => {
    expect(() => aDownstream(inject)).toThrow()
  })

  it('is refused where it would break the message, fill a place twice or travel in clear, with line and fix', () => {
    const cases: [object, object, RegExp][] = [
      ...[
        'Host',
        'connection',
        'Content-Length',
        'transfer-encoding',
        'TE',
        'Upgrade',
        'Proxy-Authorization',
        'Deputy-Tool',
        'Origin',
        'Accept-Encoding',
      ].map((header): [object, object, RegExp] => [{ as: { header } }, {}, /it cannot hold a credential/]),
      [{ as: { header: 'X-Key', value: 'Bearer' } }, {}, /no \{credential\}/],
      [{ as: [{ basic: { user: 'u' } }, { header: 'authorization' }] }, {}, /the header authorization/],
      [{ as: [{ query: 'k' }, { query: 'k' }] }, {}, /the parameter k/],
      [{ as: [{ path: 'TOKEN' }, { body: 'TOKEN' }] }, {}, /the placeholder TOKEN/],
      [{ as: [{ path: 'TOKEN' }, { body: 'THE_TOKEN' }] }, {}, /part of another/],
      [{ as: { basic: {} } }, { credential: 'minted', resource: HOST }, /no login/],
      [{ hosts: ['http://api.example'] }, {}, /plain http/],
    ]
    for (const [inject, more, message] of cases) {
      const [problem] = problems(inject, more)
      expect(problem).toMatchObject({ file: 'downstreams/api.yaml', line: 7, message: expect.stringMatching(message) })
      expect(problem!.fix).toMatch(/\w/)
    }
    expect(
      problems({ hosts: ['http://127.0.0.1:8080'], as: [{ path: 'TOKEN' }, { header: 'X-Key' }, { basic: {} }] }),
    ).toEqual([])
  })

  it('two downstreams of one server that the same tenant could mean by one host are refused', () => {
    const server = aServer({
      downstreams: { api: { scopes: [] }, twin: { scopes: [] } },
      service_downstreams: { twin: { scopes: [] } },
    })
    const shared = (more: object) =>
      sharedHosts(
        new Map([
          ['api', located(aDownstream({}))],
          ['twin', located(aDownstream({ hosts: ['https://other.example', HOST] }, { downstream: 'twin', ...more }))],
        ]),
        located(server),
        'downstreams',
      )
    expect(shared({})).toMatchObject([{ line: 7, message: expect.stringContaining('twin and api both') }])
    const acme = sharedHosts(
      new Map([
        ['api', located(aDownstream({}, { tenants: ['acme'] }))],
        ['twin', located(aDownstream({}, { downstream: 'twin', tenants: ['globex'] }))],
      ]),
      located(server),
      'downstreams',
    )
    expect(acme).toEqual([])
    expect(
      sharedHosts(
        new Map([['twin', located(aDownstream({}, { downstream: 'twin' }))]]),
        located(server),
        'service_downstreams',
      ),
    ).toEqual([])
  })

  it('a place has one name, however it is written', () => {
    expect(placeOf({ header: 'AUTHORIZATION', value: 'x' })).toBe(placeOf({ basic: {} }))
  })
})
