import type { Atomically, Batch, Database } from '../schema.ts'
import type { Store } from '../store.ts'
import { attemptStore } from './attempts.ts'
import { auditStore, type AppendAfter } from './audit.ts'
import { auditPositionStore } from './audit-positions.ts'
import { authorizationRecordStore } from './authorization-records.ts'
import { backendTokenStore } from './backend-tokens.ts'
import { replayStore, unknownCallerStore } from './callers.ts'
import { clientRecordStore } from './clients.ts'
import { clientSessionStore } from './client-sessions.ts'
import { consentStore } from './consents.ts'
import { grantStore } from './grants.ts'
import { secretHolderStore } from './holders.ts'
import { identityTokenStore } from './identity-tokens.ts'
import { leaseStore } from './leases.ts'
import { lossStore } from './losses.ts'
import { disabledUserStore, frozenTenantStore, revocationStore, type StandingWriter } from './revocations.ts'
import { rotationStore } from './rotations.ts'
import { sealedStore } from './sealed.ts'
import { secretStore } from './secrets.ts'
import { sessionStore } from './sessions.ts'
import { signingKeyStore } from './signing-keys.ts'
import { upstreamRevocationStore } from './upstream-revocations.ts'
import { userNameStore } from './user-names.ts'

/** What a database brings along. */
export interface KeysAndStore {
  readonly database: Database
  /** Where the audit log is searched. */
  readonly reading: Database
  readonly atomically: Atomically
  readonly batch: Batch
  readonly revocationIndex: StandingWriter
  readonly isConstraint: (error: unknown) => boolean
  readonly appendAfter?: AppendAfter
  /** The node that asks. */
  readonly node: string
}

/** The kinds of record, on any database. */
export const recordStores = ({
  database,
  reading,
  atomically,
  batch,
  revocationIndex,
  isConstraint,
  appendAfter,
  node,
}: KeysAndStore): Omit<Store, 'ping' | 'close' | 'cluster'> => ({
  grants: grantStore(database),
  consents: consentStore(database),
  attempts: attemptStore(database),
  sessions: sessionStore(database, node),
  clientSessions: clientSessionStore(database),
  clients: clientRecordStore(database),
  authorizationRecords: authorizationRecordStore(database),
  identityTokens: identityTokenStore(database),
  userNames: userNameStore(database),
  secrets: secretStore(database, atomically),
  rotations: rotationStore(database, atomically),
  secretHolders: secretHolderStore(database),
  leases: leaseStore(database, atomically),
  backendTokens: backendTokenStore(database),
  revocations: revocationStore(database, revocationIndex),
  disabledUsers: disabledUserStore(database, revocationIndex),
  frozenTenants: frozenTenantStore(database, revocationIndex),
  replays: replayStore(database),
  unknownCallers: unknownCallerStore(database),
  signingKeys: signingKeyStore(database),
  sealed: sealedStore(database),
  upstreamRevocations: upstreamRevocationStore(database),
  audit: auditStore({ database, reading, atomically, batch, isConstraint, appendAfter, node }),
  auditPositions: auditPositionStore(database, node),
  losses: lossStore(database),
})
