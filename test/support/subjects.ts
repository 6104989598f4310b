/** A subject verifier as the daemon builds it: real egress, real store, real signing keys. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createSystemRandom } from '../../src/clock.ts'
import type { Server } from '../../src/config/server.ts'
import type { Snapshot } from '../../src/config/snapshot.ts'
import { createMintedConnector } from '../../src/credentials/connector/minted/minted.ts'
import { createMintedTokenReader } from '../../src/identity/subject/minted-token.ts'
import type { ActorClaim } from '../../src/oauth/claims.ts'
import { createFingerprint } from '../../src/foundation/crypto/fingerprint.ts'
import { keyFromText, newKeyText } from '../../src/foundation/crypto/key-encryption-key.ts'
import { Keyring } from '../../src/foundation/crypto/keyring.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { SigningKeys } from '../../src/foundation/keys/signing-keys.ts'
import { downstreamSchema } from '../../src/config/downstream.ts'
import { createEgress } from '../../src/foundation/outbound/fetch.ts'
import { noTelemetry } from '../../src/foundation/telemetry/telemetry.ts'
import type { ResolveSecret } from '../../src/credentials/secret/reference.ts'
import type { Store } from '../../src/foundation/store/store.ts'
import { createIntrospection } from '../../src/identity/subject/introspection.ts'
import { createIssuerKeys, type IssuerKeys } from '../../src/identity/subject/issuer-keys.ts'
import { createIssuerMetadata } from '../../src/identity/subject/issuer-metadata.ts'
import { createSubjectVerifier, type SubjectVerifier } from '../../src/identity/subject/verify.ts'
import { aTenant } from './snapshot.ts'
import { borrowStore } from './stores.ts'

export interface Mint {
  server: Server
  tenant?: string
  user?: string
  audiences: readonly string[]
  priorActors?: readonly ActorClaim[]
  ancestors?: readonly string[]
  notAfter?: number
}
export interface Subjects {
  readonly verifier: SubjectVerifier
  readonly store: Store
  readonly keys: SigningKeys
  readonly issuerKeys: IssuerKeys
  /** A token that Deputy mints; without a user, for the server itself. */
  mint(wish: Mint): Promise<string>
  close(): Promise<void>
}

export const OWN_ISSUER = 'https://deputy.example'

export const startSubjects = async (options: {
  snapshot: () => Snapshot
  clock: { now(): number }
  timeout?: number
  resolveSecret?: ResolveSecret
}): Promise<Subjects> => {
  const { clock } = options
  const random = createSystemRandom()
  const folder = await mkdtemp(join(tmpdir(), 'deputy-subjects-'))
  const borrowed = await borrowStore()
  const { store } = borrowed
  const envelope = await Keyring.open({
    folder: join(folder, 'keys'),
    kek: keyFromText(newKeyText(random), 'a test', random),
    random,
  })
  const keys = await SigningKeys.open({
    store: store.signingKeys,
    envelope,
    clock,
    lifetime: 86_400_000,
    longestToken: 3_600_000,
  })
  const egress = createEgress({ allowLoopback: true, allowPrivate: [], timeout: options.timeout ?? 2000 })
  const issuer = (): string => OWN_ISSUER
  const fingerprint = createFingerprint(new Secret(Buffer.alloc(32, 7).toString('base64')))
  const metadata = createIssuerMetadata({ egress, clock })
  const issuerKeys = createIssuerKeys({ egress, clock, metadata })
  const resolveSecret: ResolveSecret =
    options.resolveSecret ?? (() => Promise.resolve(new Secret('introspection secret')))
  const minted = createMintedConnector({ issuer, lifetime: () => 300_000, keys, clock, random })
  return {
    store,
    keys,
    issuerKeys,
    verifier: createSubjectVerifier({
      snapshot: options.snapshot,
      keys: issuerKeys,
      introspect: createIntrospection({ egress, clock, metadata, resolveSecret, fingerprint }),
      sessions: store.sessions,
      clientSessions: { find: () => Promise.resolve(undefined) },
      readMintedToken: createMintedTokenReader({ keys, issuer, clock }),
      ownIssuer: issuer,
      fingerprint,
      clock,
      telemetry: noTelemetry,
    }),
    async mint({ server, tenant = 'acme', user, audiences, priorActors = [], ancestors = [], notAfter = Infinity }) {
      const { token } = await minted.obtain({
        principal:
          user === undefined ? { kind: 'workload', tenant, server: server.server } : { kind: 'user', tenant, user },
        tenant: aTenant({ tenant }),
        server,
        downstream: downstreamSchema.parse({ downstream: 'd', credential: 'minted', resource: audiences[0] }),
        scopes: [],
        notAfter,
        audiences,
        priorActors,
        ancestors,
        correlationId: 'test',
      })
      return token.reveal()
    },
    async close() {
      await egress.close()
      await borrowed.close()
      await rm(folder, { recursive: true, force: true })
    },
  }
}
