import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { explain, type RecordView } from '../../src/foundation/audit/explain.ts'

const aView = (over: Partial<RecordView> & { detail?: Record<string, unknown> } = {}): RecordView => {
  const { detail = {}, ...columns } = over
  return {
    seq: 1,
    at: 0,
    id: 'c1',
    event: 'token.exchange',
    outcome: 'issued',
    tenant: 'acme',
    user: 'ada',
    server: 'notes',
    downstream: 'calendar',
    record: { detail },
    ...columns,
  }
}
const story = (...records: RecordView[]): string => explain(records).join('\n')

const exchange = {
  attestation: { method: 'peer_executable', uid: 1000, gid: 1000, pid: 4711, exe: '/usr/bin/notes' },
  subject: { issuer: 'https://idp.example', how: 'jwt', token: 'f1' },
  asked: { scopes: ['events:read'], audience: ['calendar'], resource: [], tool: 'list_events' },
  decision: { allowed: true, policies: ['engineers-read'], scopes: ['events:read'] },
  credential: { kind: 'oauth_grant', scopes: ['events:read'], expires_at: 60_000, cached: true, grant: 'g1' },
  story: 'Example answered the refresh with a new access token.',
  milliseconds: 3,
}

describe('explaining a request', () => {
  it('tells which agent got a token, for which server and scopes, and what it proved itself by', () => {
    const proof = { id: 't1', issuer: 'https://ci.example', subject: 'repo:acme/app' }
    const detail = { client: 'deploy', how: 'token', proof, scopes: ['notes:read'] }
    const view = { event: 'token.agent', user: null, downstream: null }
    expect(story(aView({ ...view, detail }))).toContain(
      'The agent deploy of acme got a token for notes with notes:read.',
    )
    expect(story(aView({ ...view, detail }))).toContain('by a token of https://ci.example for repo:acme/app.')
    const refused = { ...view, outcome: 'refused', server: null, detail: { client: 'deploy', how: 'private_key_jwt' } }
    expect(story(aView(refused))).toContain('The agent deploy of acme got no token for a server.')
    expect(story(aView(refused))).toContain('by its key.')
  })

  it('fault 19: tells what another service answered', () => {
    const error = {
      code: 'issuer_not_understood',
      message: 'The issuer answered.',
      next: 'Compare.',
      facts: { issuer: 'x', answered: '200 text/html Sign in with ***' },
    }
    expect(story(aView({ outcome: 'refused', detail: { error } }))).toContain(
      '  Refused (issuer_not_understood): The issuer answered.\n  What was answered: 200 text/html Sign in with ***\n  What to do: Compare.',
    )
  })

  it('tells who asked, for whom, what for, which policy decided, what the provider answered and what was issued', () => {
    expect(explain([aView({ detail: exchange })])).toEqual([
      '1970-01-01T00:00:00.000Z token.exchange (record 1)',
      '  notes asked; it proved who it is by peer_executable. It is process 4711 of uid 1000 (/usr/bin/notes).',
      '  It acted for ada of acme, by a signed token from https://idp.example (fingerprint f1).',
      '  It asked for events:read at calendar for the tool list_events.',
      '  Policy allowed events:read (decided by engineers-read).',
      '  Example answered the refresh with a new access token.',
      '  A credential (oauth_grant) with events:read was issued from the cache; it ends at 1970-01-01T00:01:00.000Z.',
      '  It comes from the grant g1.',
      '  It took 3 ms.',
    ])
  })

  it.each(['over_scoped', 'wider'])('says that a token is over-scoped, by the key %s of the record', (key) => {
    const credential = { ...exchange.credential, [key]: true }
    expect(story(aView({ detail: { ...exchange, credential } }))).toContain(
      'was issued from the cache, more than requested because the provider cannot narrow it; it ends',
    )
  })

  it('tells of a refusal its code and what to do next', () => {
    const refused = story(
      aView({
        outcome: 'refused',
        detail: {
          ...exchange,
          credential: undefined,
          story: undefined,
          decision: { allowed: false, policies: [] },
          error: { code: 'policy_denied', message: 'Policy does not let notes act.', next: 'Ask the admin.' },
        },
      }),
    )
    expect(refused).toContain('Policy denied it (no policy permits it).')
    expect(refused).toContain('Refused (policy_denied): Policy does not let notes act.\n  What to do: Ask the admin.')
    expect(refused).not.toContain('was issued')
  })

  it('tells of a caller that nobody knows what it claimed to be', () => {
    expect(story(aView({ server: null, detail: { attestation: { claimed: 'notes', uid: 7, pid: 8 } } }))).toContain(
      'The caller was not recognised; it claimed to be notes. It is process 8 of uid 7.',
    )
  })

  it.each([
    [
      'connect.consent',
      'done',
      { asked: { scopes: ['a', 'b'] }, granted: ['a'] },
      'ada allowed notes a at calendar; the page had offered a b.',
    ],
    ['connect.consent', 'refused', {}, 'ada did not allow notes to use calendar.'],
    [
      'connect.complete',
      'done',
      { grant: 'g1', scopes: ['a'], provider: 'example' },
      'example gave a: ada is connected to calendar for notes (grant g1).',
    ],
    [
      'connect.refused',
      'refused',
      { opened_by: 'mallory' },
      'The link for ada to connect calendar for notes was refused: mallory had opened it.',
    ],
    [
      'grant.refresh',
      'failed',
      { status: 'uncertain', provider: 'example' },
      'The grant of ada for calendar was not refreshed at example; it is now uncertain.',
    ],
    [
      'login',
      'done',
      { uid: 1000, issuer: 'https://idp.example' },
      'ada of acme signed in at https://idp.example for the Unix user 1000.',
    ],
    [
      'revocation',
      'done',
      {
        scope: 'user ada of acme',
        by: 'uid 0',
        reason: 'left',
        grants: [{ grant: 'g', upstream: 'revoked' }],
        consents: 2,
        sessions: 1,
        cached: 0,
      },
      'Revoked: user ada of acme by uid 0 (left). 1 grant, 2 consents, 1 session and 0 cached credentials ended.',
    ],
    ['token.introspect', 'done', { active: true, token_id: 'j1' }, 'notes asked whether a token is live (j1): it is.'],
    ['key.rotate', 'done', { keys: 'signing', by: 'uid 0' }, 'The signing keys were rotated by uid 0.'],
    [
      'secret.set',
      'done',
      { secret: 'key', version: 2, by: 'uid 0' },
      'The secret key of acme was set by uid 0; this is version 2.',
    ],
    ['secret.remove', 'done', { secret: 'key', versions: 2 }, 'The secret key of acme was removed with 2 versions.'],
    [
      'config.reload',
      'failed',
      { problems: [{ file: 'x' }] },
      'Reload rejected (1 problem); the daemon kept the current configuration.',
    ],
    ['user.disable', 'done', { by: 'uid 0' }, 'ada of acme was disabled by uid 0.'],
    ['user.enable', 'done', { by: 'uid 0' }, 'ada of acme was enabled by uid 0.'],
    ['daemon.start', 'done', { version: '1.0.0', pid: 9 }, 'Deputy 1.0.0 started as process 9.'],
    ['tenant.freeze', 'done', { by: 'uid 0', reason: 'theft' }, 'acme was frozen by uid 0 (theft).'],
    ['tenant.thaw', 'done', { by: 'uid 0' }, 'acme was thawed by uid 0.'],
    [
      'audit.acknowledge',
      'done',
      { by: 'uid 0', reason: 'a restore', missing: [{ node: 'local', seq: 10 }] },
      'Missing signed records were acknowledged by uid 0 (a restore): record 10 of the node local.',
    ],
    [
      'order.restored',
      'done',
      { what: 'user ada of acme is disabled', problem: 'the store had lost it' },
      'An order was restored at the start of the daemon: user ada of acme is disabled (the store had lost it).',
    ],
    ['daemon.stop', 'done', { pid: 9 }, 'Deputy stopped (process 9).'],
    [
      'audit.unconfirmed',
      'failed',
      { record: 5, recorded: 'token.exchange', problem: 'no answer within 2000 ms' },
      'Record 5 (token.exchange) was not confirmed in time, so the caller got an error and no credential, whatever that record says; a change by an admin can be in force: no answer within 2000 ms.',
    ],
    ['something.new', 'done', { by: 'uid 0' }, 'something.new: done by uid 0.'],
  ] as const)('has a sentence for %s that is %s', (event, outcome, detail, sentence) => {
    expect(explain([aView({ event, outcome, detail })])).toContain(`  ${sentence}`)
  })

  it('tells the records of one id one after the other', () => {
    expect(
      explain([aView({ detail: exchange }), aView({ seq: 2, event: 'audit.unconfirmed' })]).filter(
        (line) => !line.startsWith('  '),
      ),
    ).toHaveLength(2)
  })

  it('lets no name that a caller chose begin a line of its own or steer the terminal', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'binary' }),
        fc.constantFrom('\n', '\r\n', '\u001b[2J', '\u202e', '\u2028', '\uD800'),
        (text, odd) => {
          const name = text + odd
          const lines = explain([
            aView({
              event: name,
              user: name,
              server: null,
              detail: {
                attestation: { claimed: name, uid: 1, pid: 2, exe: name },
                asked: { audience: [name] },
                story: name,
              },
            }),
          ])
          for (const line of lines) expect(line).not.toMatch(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/u)
        },
      ),
    )
  })

  it('tells what it can of any detail whatever', () => {
    fc.assert(
      fc.property(
        fc.constantFrom('token.exchange', 'revocation', 'login', 'toString', '__proto__'),
        fc.dictionary(fc.constantFrom(...Object.keys(exchange), 'error', 'grants', 'scope', 'by'), fc.jsonValue()),
        (event, detail) => {
          expect(explain([aView({ event, detail })]).length).toBeGreaterThan(1)
        },
      ),
    )
  })
})
