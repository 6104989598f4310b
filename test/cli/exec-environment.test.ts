import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { childEnvironment, proxyEnvironment, valueOf } from '../../src/cli/exec/environment.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'

const of = (mapping: { field?: string; template?: string }, credential: unknown): string =>
  valueOf(
    { downstream: 'orders', field: mapping.field, template: mapping.template },
    new Secret(typeof credential === 'string' ? credential : JSON.stringify(credential)),
  )

describe('the environment of a started server', () => {
  it('has a credential as the mapping wants it', () => {
    expect(of({}, 'the-token')).toBe('the-token')
    expect(of({ template: 'Bearer {token}' }, 'the-token')).toBe('Bearer the-token')
    expect(of({ field: 'password' }, { username: 'u', password: 'p' })).toBe('p')
    expect(of({ field: 'port' }, { port: 5432 })).toBe('5432')
    expect(of({ template: 'user={username} password={password}' }, { username: 'u', password: 'p w' })).toBe(
      'user=u password=p w',
    )
  })

  it('has a URL whose parts are what they were, whatever is in the credential', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'binary', minLength: 1 }),
        fc.string({ unit: 'binary', minLength: 1 }),
        (username, password) => {
          const [user, word] = [
            username.replaceAll('\0', 'x').toWellFormed(),
            password.replaceAll('\0', 'x').toWellFormed(),
          ]
          const url = new URL(
            of(
              { template: 'postgres://{username}:{password}@db.example:5432/orders' },
              { username: user, password: word },
            ),
          )
          expect([decodeURIComponent(url.username), decodeURIComponent(url.password), url.host, url.pathname]).toEqual([
            user,
            word,
            'db.example:5432',
            '/orders',
          ])
        },
      ),
    )
  })

  it('promise 5: says what is missing and nothing of what is there', () => {
    for (const [mapping, credential, words] of [
      [{ field: 'password' }, 'hunter2', /not a JSON object/],
      [{ field: 'password' }, '"hunter2"', /not a JSON object/],
      [{ field: 'password' }, { secret: 'hunter2' }, /no field password/],
      [{ template: '{nothing}' }, { secret: 'hunter2' }, /no field nothing/],
      [{ field: 'toString' }, { secret: 'hunter2' }, /no field toString/],
      [{ field: 'secret' }, { secret: ['hunter2'] }, /no field secret/],
      [{}, 'hunter2\0', /zero byte/],
    ] as const) {
      expect(() => of(mapping, credential)).toThrow(words)
      expect(() => of(mapping, credential)).not.toThrow(/hunter2/)
    }
  })

  it("threat 3: is the caller's without anything of Deputy's own", () => {
    fc.assert(
      fc.property(
        fc.dictionary(
          fc.constantFrom('DEPUTY_HOME', 'DEPUTY_SOCKET', 'Deputy_Token', 'deputy_x', 'PATH', 'MY_DEPUTY', 'X'),
          fc.string(),
        ),
        (caller) => {
          const given = childEnvironment({ ...caller, GONE: undefined }, { TOKEN: 't', X: 'mapped' })
          expect(Object.keys(given).filter((name) => /^deputy_/i.test(name))).toEqual([])
          expect(given).toMatchObject({
            TOKEN: 't',
            X: 'mapped',
            ...(caller['PATH'] === undefined ? {} : { PATH: caller['PATH'] }),
          })
          expect(given).not.toHaveProperty('GONE')
        },
      ),
    )
  })

  it("leads to the proxy as its server, with the session's token as the password", () => {
    const given = proxyEnvironment(
      { url: 'http://127.0.0.1:7879', ca: '/run/deputy/ca.pem' },
      'notes',
      new Secret('dxs_a-b_c'),
    )
    expect(given).toMatchObject({
      HTTPS_PROXY: 'http://notes:dxs_a-b_c@127.0.0.1:7879/',
      https_proxy: 'http://notes:dxs_a-b_c@127.0.0.1:7879/',
      NODE_EXTRA_CA_CERTS: '/run/deputy/ca.pem',
      NODE_USE_ENV_PROXY: '1',
    })
  })
})
