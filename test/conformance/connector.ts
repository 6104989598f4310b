import { inspect } from 'node:util'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Connector, Credential, CredentialRequest } from '../../src/credentials/connector/connector.ts'
import type { SpoiltAnswer } from '../doubles/spoilt.ts'

/** A connector at a source of credentials whose next answer can be spoiled. */
export interface ConnectorPlace {
  readonly connector: Connector
  /** A request that is answered. */
  request(over?: Partial<CredentialRequest>): CredentialRequest
  readonly spoil: (answer: SpoiltAnswer) => void
  /** The scopes that the source has given with the last credential; absent for a source that knows none. */
  readonly given?: () => readonly string[]
  /** What must not be in an error, a story or anything else that is printed. */
  readonly secrets: () => readonly string[]
  now(): number
  close(): Promise<void>
}

/** What becomes of each: nothing of it is ever handed out. */
const REFUSED: Readonly<Record<Exclude<SpoiltAnswer, 'no expiry'>, readonly string[]>> = {
  html: ['provider_refused'],
  // To a server that was shown the user's token, `invalid_grant` is about that token.
  'error with 200': ['provider_refused', 'subject_token_refused'],
  'another token type': ['provider_refused'],
  expired: ['provider_refused'],
  'surplus scope': ['scope_not_narrowable'],
  huge: ['provider_refused', 'provider_unavailable', 'egress_refused'],
  redirect: ['provider_refused'],
  half: ['provider_unavailable'],
  nothing: ['provider_unavailable'],
  'not JSON': ['provider_refused'],
  'no token': ['provider_refused'],
  'for somebody else': ['provider_refused'],
  failing: ['provider_unavailable'],
  busy: [],
}

/** What every connector does that asks a provider for a token. */
export const describeConnector = (
  name: string,
  start: () => Promise<ConnectorPlace>,
  options: {
    readonly knowsUsers: boolean
    /** Spoilt answers that the form of this source's answers does not have. */
    readonly lacks?: readonly SpoiltAnswer[]
  },
): void => {
  describe(`${name} is a connector`, () => {
    let place: ConnectorPlace
    beforeEach(async () => {
      place = await start()
    })
    afterEach(async () => {
      await place?.close()
    })
    const obtain = (over?: Partial<CredentialRequest>): Promise<Credential> =>
      place.connector.obtain(place.request(over))
    const failure = (work: Promise<unknown>): Promise<{ code: string; message: string; facts: object }> =>
      work.then(
        (got) => {
          throw new Error(`it was obtained: ${inspect(got)}`)
        },
        (error: { code: string; message: string; facts: object }) => error,
      )

    it('promise 1: obtains what was asked and no more, for no longer than allowed', async () => {
      const notAfter = place.now() + 120_000
      const credential = await obtain({ scopes: ['read'], notAfter })
      expect(credential).toMatchObject({ scopes: ['read'], overScoped: false })
      if (place.given !== undefined) expect(place.given()).toEqual(['read'])
      expect(credential.expiresAt).toBeGreaterThan(place.now())
      expect(credential.expiresAt).toBeLessThanOrEqual(notAfter)
      expect((await obtain({ scopes: ['read', 'write'] })).scopes).toEqual(['read', 'write'])
    })

    it('promise 5: prints nothing of what it knows', async () => {
      const credential = await obtain()
      const printed = `${inspect(credential, { depth: 9, showHidden: true })} ${JSON.stringify(credential)} ${credential.auditNote}`
      for (const secret of [...place.secrets(), credential.token.reveal()]) expect(printed).not.toContain(secret)
    })

    it.skipIf(options.lacks?.includes('no expiry'))(
      'takes a token whose life is not said for a short one',
      async () => {
        place.spoil('no expiry')
        const { expiresAt } = await obtain()
        expect(expiresAt - place.now()).toBeLessThanOrEqual(300_000)
      },
    )

    for (const [answer, codes] of Object.entries(REFUSED) as [
      Exclude<SpoiltAnswer, 'no expiry'>,
      readonly string[],
    ][]) {
      if (answer === 'for somebody else' && !options.knowsUsers) continue
      if (codes.length === 0 || options.lacks?.includes(answer) === true) continue
      it(`promise 9: an answer that is ${answer} is one clear error without secrets, and the next one is used`, async () => {
        place.spoil(answer)
        const error = await failure(obtain())
        expect(codes).toContain(error.code)
        for (const secret of place.secrets())
          expect(`${error.message} ${JSON.stringify(error.facts)}`).not.toContain(secret)
        expect(error.message).not.toMatch(/eyJ[\w-]+\.eyJ/)
        expect((await obtain()).scopes).toEqual(['read'])
      })
    }

    it('asks a provider again that was busy', async () => {
      place.spoil('busy')
      expect((await obtain()).scopes).toEqual(['read'])
    })
  })
}
