import { createHash } from 'node:crypto'
import { errors, type Adapter, type AdapterFactory, type AdapterPayload } from 'oidc-provider'
import { type Clock, toSeconds } from '#clock'
import type { CurrentSnapshot } from '#config'
import { type Envelope, OWN_TENANT, Secret } from '#foundation/crypto'
import { type AuthorizationRecord, authorizationRecordName, type AuthorizationRecordStore } from '#foundation/store'
import type { ReplayStore, StoreWrite } from '#foundation/store'
import { type ClientRegistry, type ClientSessions, tenantOfSession } from '#identity/client'

import { clientAdapter } from './clients.ts'
import { noAdapter } from './no-adapter.ts'
import { USE } from './scopes.ts'
import { tokenWrites } from './token-writes.ts'

export interface AdapterDependencies {
  readonly records: AuthorizationRecordStore
  readonly replays: ReplayStore
  readonly clientSessions: ClientSessions
  readonly clientRegistry: ClientRegistry
  /** Ends a client session, at every node. */
  readonly endSession: (session: string, reason: string) => Promise<void>
  readonly snapshot: CurrentSnapshot
  readonly envelope: Envelope
  readonly clock: Clock
}

const REFRESH_TOKEN = 'RefreshToken'
/** How long a client may ask again with a refresh token that it has used: its answer was lost, or two of its processes share it (ms). */
const RETRY_MS = 30_000
/** How long a record is kept that the library names no time for (ms). */
const UNNAMED_MS = 600_000

const hashOf = (value: string): string => createHash('sha256').update(value).digest('base64url')

/** A record that was sealed under a key that is gone, or that Deputy has not written, is no record. */
const openRecord = async (
  { envelope }: AdapterDependencies,
  record: AuthorizationRecord,
): Promise<AdapterPayload | undefined> => {
  try {
    const text = await envelope.open(authorizationRecordName(record), record.sealed)
    return JSON.parse(text.reveal()) as AdapterPayload
  } catch {
    return undefined
  }
}

/** Positions of refresh tokens in their session: which one was made out of which. */
const positionOf = ({ rotations }: AdapterPayload): number => (typeof rotations === 'number' ? rotations : 0)

/**
 * Whether a used refresh token may be used once more. Its successor is the same text again (`refreshTokenId`), so that there is
 * never a second live one; it must not have been used, or never have been written because the daemon stopped in between.
 */
const mayRetry = async (
  { records, clock }: AdapterDependencies,
  { session, position, consumedAt }: AuthorizationRecord,
): Promise<boolean> => {
  if (session === null || consumedAt === null) return false
  const successor = await records.findAt(REFRESH_TOKEN, session, position + 1)
  if (successor === undefined) return true
  return successor.consumedAt === null && clock.now() - consumedAt <= RETRY_MS
}

/** Records of a kind in the one store, each sealed and known by a hash of the value that stands for it. */
const recordAdapter = (deps: AdapterDependencies, kind: string): Adapter => {
  const { records, envelope, clock } = deps

  const read = async (record: AuthorizationRecord | undefined): Promise<AdapterPayload | undefined> => {
    if (record === undefined) return undefined
    const payload = await openRecord(deps, record)
    if (payload === undefined || record.consumedAt === null) return payload
    if (kind === REFRESH_TOKEN && (await mayRetry(deps, record))) return payload
    return { ...payload, consumed: toSeconds(record.consumedAt) }
  }

  const recordOf = async (
    value: string,
    payload: AdapterPayload,
    expiresIn?: number,
  ): Promise<Omit<AuthorizationRecord, 'consumedAt'>> => {
    const { grantId, userCode } = payload
    const tenant = grantId === undefined ? OWN_TENANT : tenantOfSession(grantId)
    const id = hashOf(value)
    const text = new Secret(JSON.stringify(payload))
    return {
      kind,
      id,
      tenant,
      session: grantId ?? null,
      userCode: userCode === undefined ? null : hashOf(userCode),
      position: positionOf(payload),
      sealed: await envelope.seal(authorizationRecordName({ tenant, kind, id }), text),
      expiresAt: clock.now() + (expiresIn === undefined ? UNNAMED_MS : expiresIn * 1000),
    }
  }

  /** A refresh token, together with the use of the one before it. */
  const rotation = async (used: string | undefined, ...record: Parameters<typeof recordOf>): Promise<StoreWrite> => {
    const successor = await recordOf(...record)
    return used === undefined ? records.write(successor) : records.rotation({ id: used, at: clock.now() }, successor)
  }

  return {
    async upsert(value, payload, expiresIn) {
      const request = kind === REFRESH_TOKEN ? tokenWrites() : undefined
      if (request === undefined) await records.put(await recordOf(value, payload, expiresIn))
      else request.writes.push(() => rotation(request.used, value, payload, expiresIn))
    },
    async find(value) {
      return read(await records.find(kind, hashOf(value), clock.now()))
    },
    async findByUserCode(userCode) {
      return read(await records.findByUserCode(kind, hashOf(userCode), clock.now()))
    },
    findByUid: () => Promise.resolve(undefined),
    async consume(value) {
      const id = hashOf(value)
      const request = kind === REFRESH_TOKEN ? tokenWrites() : undefined
      // Of two requests at once with one code, one gets tokens; with one refresh token both get the same successor.
      if (request !== undefined) request.used = id
      else if (!(await records.consume(kind, id, clock.now()))) throw new errors.InvalidGrant('it was used already')
    },
    async destroy(value) {
      // Of two requests that go on with one interaction at once, one gets a code.
      if (!(await records.remove(kind, hashOf(value))) && kind === 'Interaction')
        throw new errors.SessionNotFound('the sign-in was gone on with already')
    },
    async revokeByGrantId(session) {
      await records.removeOf(session)
    },
  }
}

/**
 * A grant of the library is a client session. When the library ends one, because a code or a refresh token came a second time
 * or because the client asked for it, everything that descends from it ends at every node.
 */
const grantAdapter = ({ clientSessions, endSession, snapshot }: AdapterDependencies): Adapter => ({
  // The flow has written the session; nothing of the library's own is kept.
  ...noAdapter,
  async find(id) {
    const signIn = await clientSessions.find(id)
    const server = signIn === undefined ? undefined : snapshot().servers.get(signIn.server)
    if (signIn === undefined || server === undefined) return undefined
    return {
      jti: id,
      kind: 'Grant',
      iat: toSeconds(signIn.signedInAt),
      exp: toSeconds(signIn.expiresAt),
      accountId: id,
      clientId: signIn.client,
      openid: { scope: 'openid offline_access' },
      resources: { [server.resource]: [USE, ...signIn.scopes].join(' ') },
    }
  },
  async destroy(id) {
    await endSession(id, 'the client has ended it, or a code or refresh token of it came a second time')
  },
  async revokeByGrantId(id) {
    await this.destroy(id)
  },
})

/** Of a browser's session the library keeps the state of the device page alone: who has signed in, the identity provider knows. */
const sessionAdapter = (records: Adapter): Adapter => ({
  ...records,
  async upsert(id, { accountId: _account, loginTs: _at, authorizations: _clients, ...payload }) {
    if (payload['state'] !== undefined) await records.upsert(id, payload, 600)
  },
})

const replayAdapter = (replays: ReplayStore, clock: Clock): Adapter => ({
  ...noAdapter,
  async upsert(id, _payload, expiresIn) {
    if (!(await replays.claim('dpop', id, clock.now() + (expiresIn ?? 0) * 1000)))
      throw new errors.InvalidDpopProof('the proof was used already')
  },
  async find(id) {
    return (await replays.has('dpop', id, clock.now())) ? { jti: id } : undefined
  },
})

/** The one store, as the library sees it. */
export const createAdapters = (deps: AdapterDependencies, grantTypes: ReadonlySet<string>): AdapterFactory => {
  return (name) => {
    switch (name) {
      case 'Client':
        return clientAdapter(deps.clientRegistry, grantTypes)
      case 'Grant':
        return grantAdapter(deps)
      case 'Session':
        return sessionAdapter(recordAdapter(deps, name))
      case 'ReplayDetection':
        return replayAdapter(deps.replays, deps.clock)
      default:
        return recordAdapter(deps, name)
    }
  }
}
