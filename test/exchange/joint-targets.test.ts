import * as fc from 'fast-check'
import { decodeJwt } from 'jose'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { createMemoryCache } from '../../src/foundation/cache/memory.ts'
import { createRates } from '../../src/foundation/cache/rates.ts'
import { createSystemRandom } from '../../src/clock.ts'
import { downstreamSchema } from '../../src/config/downstream.ts'
import type { Snapshot } from '../../src/config/snapshot.ts'
import type { Connectors } from '../../src/credentials/connector/connector.ts'
import { ACCESS_TOKEN_TYPE } from '../../src/oauth/token-type.ts'
import { createMintedConnector } from '../../src/credentials/connector/minted/minted.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import type { SigningKeys } from '../../src/foundation/keys/signing-keys.ts'
import type { CachedCredential } from '../../src/credentials/cache/cached-credential.ts'
import { createExchange } from '../../src/flows/exchange/exchange.ts'
import { createObtain } from '../../src/flows/exchange/obtain.ts'
import { silentLogger } from '../../src/foundation/telemetry/logger.ts'
import { noTelemetry } from '../../src/foundation/telemetry/telemetry.ts'
import { cedar, createPolicy } from '../../src/identity/policy/cedar.ts'
import { footprintOf } from '../../src/identity/policy/footprint.ts'
import { RevocationIndex } from '../../src/identity/validity/revocation-index.ts'
import { aClock, aServer, aSnapshot, aTenant } from '../support/snapshot.ts'
import { someSigningKeys } from '../support/signing-keys.ts'

const IDS = ['a', 'b', 'c'] as const
const SCOPES = ['read', 'write', 'a:own', 'b:own']
const uriOf = (id: string): string => `https://${id}.example`

let keys: SigningKeys
beforeAll(async () => {
  keys = await someSigningKeys()
})
afterAll(() => {
  keys = undefined as unknown as SigningKeys
})

const scopes = fc.uniqueArray(fc.constantFrom(...SCOPES))
/** What one downstream's file says, what the server is registered for there, and the policies about it. */
const aTarget = fc.record({
  listed: scopes,
  registered: scopes,
  lifetime: fc.constantFrom('1m', '5m'),
  policies: fc.array(
    fc.record({
      effect: fc.constantFrom('permit', 'permit', 'forbid'),
      operator: fc.constantFrom('containsAll', 'containsAny'),
      asked: fc.boolean(),
      scopes: fc.uniqueArray(fc.constantFrom(...SCOPES), { minLength: 1 }),
    }),
    { minLength: 1, maxLength: 3 },
  ),
})
type Target = (typeof aTarget extends fc.Arbitrary<infer T> ? T : never) & object

const textOf = (id: string, { policies }: Target): string[] =>
  policies.map(({ effect, operator, asked, scopes: named }) => {
    const set = `[${named.map((scope) => `"${scope}"`).join(', ')}]`
    const condition = asked ? `context.scopes.${operator}(${set})` : `${set}.${operator}(context.scopes)`
    return `${effect} (principal, action, resource == Deputy::Downstream::"${id}") when { ${condition} };`
  })

let sets = 0
const policyOf = (texts: readonly string[]) => {
  const policies = Object.fromEntries(texts.map((text, at) => [`p${at}`, text]))
  const set = `joint-${(sets += 1) % 4}`
  const preparsed = cedar.preparsePolicySet(set, { staticPolicies: policies })
  if (preparsed.type === 'failure') throw new Error(preparsed.errors.map(({ message }) => message).join('; '))
  const forms = texts.map((text) => {
    const read = cedar.policyToJson(text)
    if (read.type === 'failure') throw new Error('not a policy')
    return read.json
  })
  return createPolicy(set, footprintOf(forms))
}

const aWorld = (targets: readonly Target[]) => {
  const clock = aClock()
  const snapshot: Snapshot = {
    ...aSnapshot({
      servers: [
        aServer({
          downstreams: Object.fromEntries(targets.map(({ registered }, at) => [IDS[at]!, { scopes: registered }])),
        }),
      ],
      tenants: [aTenant()],
    }),
    downstreams: new Map(
      targets.map(({ listed, lifetime }, at) => [
        IDS[at]!,
        downstreamSchema.parse({
          downstream: IDS[at]!,
          credential: 'minted',
          resource: uriOf(IDS[at]!),
          lifetime,
          scopes: Object.fromEntries(listed.map((scope) => [scope, scope])),
        }),
      ]),
    ),
  }
  const revocationIndex = new RevocationIndex([], [])
  const cache = createMemoryCache<CachedCredential>({ entries: 100, clock })
  const minted = createMintedConnector({
    issuer: () => 'https://deputy.example',
    lifetime: () => 600_000,
    keys,
    clock,
    random: createSystemRandom(),
  })
  const policy = policyOf(targets.flatMap((target, at) => textOf(IDS[at]!, target)))
  const exchange = createExchange({
    snapshot: () => snapshot,
    revocationIndex,
    membership: {
      catchUp: () => Promise.resolve(),
      assertHeld() {},
    },
    clock,
    telemetry: noTelemetry,
    attest: () => Promise.resolve({ server: snapshot.servers.get('notes')!, method: 'unix' }),
    subjects: {
      verify: () =>
        Promise.resolve({
          tenant: aTenant(),
          user: 'alice',
          issuer: 'i',
          groups: [],
          claims: {},
          how: 'jwt',
          issuedAt: clock.now() - 1000,
          earliestIssue: clock.now() - 1000,
          expiresAt: clock.now() + 3_600_000,
          tokenId: 't',
          ancestors: [],
          actors: [],
        }),
      fromSession: () => Promise.reject(new Error('not used')),
    },
    policy: () => policy,
    obtain: createObtain({
      cache,
      connectors: { minted } as unknown as Connectors,
      clock,
      isVoid: (entry) => revocationIndex.findRevocation(entry) !== undefined,
      versionsOf: () => undefined,
      forgetSecret: () => undefined,
      lastRevocation: () => revocationIndex.number,
      hasGrant: () => Promise.resolve(true),
      endLease: () => Promise.reject(new Error('not used')),
      logger: silentLogger,
    }),
    exec: { isLive: () => true, leased() {} },
    checkOut: () => Promise.resolve(true),
    checkProof: () => Promise.reject(new Error('not used')),
    rates: createRates({ rates: () => snapshot.settings.rates }),
    audit: { append: () => Promise.resolve() },
  })
  const ask = (audiences: readonly string[], resources: readonly string[], wanted: readonly string[] | undefined) =>
    exchange
      .exchange(
        { correlationId: 'c', evidence: {} },
        {
          audiences,
          resources,
          ...(wanted === undefined ? {} : { scopes: wanted }),
          subjectToken: new Secret('s'),
          subjectTokenType: ACCESS_TOKEN_TYPE,
        },
      )
      .then(
        ({ token, scopes: issued, expiresIn }) => ({
          scopes: issued,
          expiresIn,
          aud: [decodeJwt(token.reveal()).aud].flat(),
        }),
        (error: { code: string }) => {
          if (error.code === undefined || error.code === 'internal') throw error
          return undefined
        },
      )
  const revoke = (downstream: string): void => {
    revocationIndex.add({
      id: 'r',
      scope: { kind: 'downstream', downstream },
      epoch: clock.now() + 1,
      by: 'admin',
      reason: null,
      forgetAt: null,
    })
  }
  return { ask, revoke }
}

it('fault 1, promises 1 and 4: for any set of targets the joint token is never more than the single tokens, whatever policy says and whatever is revoked', async () => {
  let issued = 0
  await fc.assert(
    fc.asyncProperty(
      fc.array(aTarget, { minLength: 2, maxLength: 3 }),
      fc.option(
        scopes.filter((each) => each.length > 0),
        { nil: undefined },
      ),
      fc.subarray([...IDS]),
      fc.integer({ min: 0, max: 3 }),
      async (targets, wanted, revoked, asResources) => {
        const { ask, revoke } = aWorld(targets)
        const ids = targets.map((_, at) => IDS[at]!)
        const [named, byUri] = [ids.slice(asResources), ids.slice(0, asResources).map(uriOf)]
        const compare = async (): Promise<void> => {
          const joint = await ask(named, byUri, wanted)
          if (joint === undefined) return
          issued += 1
          expect(new Set(joint.aud)).toEqual(new Set(ids.map(uriOf)))
          for (const [at, id] of ids.entries()) {
            const single = await ask([id], [], wanted)
            expect(single, `${id} is refused by itself`).toBeDefined()
            const { listed, registered } = targets[at]!
            const here = joint.scopes.filter(
              (scope) => listed.length === 0 || listed.includes(scope) || registered.includes(scope),
            )
            for (const scope of here) expect(single!.scopes).toContain(scope)
            expect(joint.expiresIn).toBeLessThanOrEqual(single!.expiresIn)
          }
        }
        await compare()
        for (const id of revoked) revoke(id)
        await compare()
        if (revoked.some((id) => ids.includes(id))) expect(await ask(named, byUri, wanted)).toBeUndefined()
      },
    ),
    { numRuns: 400 },
  )
  expect(issued).toBeGreaterThan(20)
})
