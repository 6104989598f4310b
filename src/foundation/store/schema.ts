import type { ColumnDataType, CompiledQuery, Kysely } from 'kysely'
import type { StoreWrite } from './records/store-write.ts'

/** The tables, as both databases have them. Times are ms since the epoch, lists and objects JSON text, sealed values bytes. */
export interface Tables {
  grants: {
    id: string
    tenant: string
    user: string
    server: string
    downstream: string
    provider: string
    client_generation: string
    scopes: string
    status: string
    problem: string | null
    sealed: Uint8Array
    version: number
    created_at: number
    updated_at: number
    refresh_owner: string | null
    refresh_until: number | null
  }
  consents: {
    tenant: string
    user: string
    server: string
    downstream: string
    asked: string
    granted: string
    at: number
    until: number
    proof: string | null
  }
  attempts: { kind: string; id: string; tenant: string; sealed: Uint8Array; expires_at: number }
  sessions: {
    node: string
    uid: number
    tenant: string
    user: string
    issuer: string
    groups: string
    claims: string
    signed_in_at: number
    expires_at: number
    sealed: Uint8Array | null
  }
  identity_tokens: { tenant: string; user: string; issuer: string; sealed: Uint8Array; expires_at: number }
  client_sessions: {
    id: string
    tenant: string
    user: string
    client: string
    server: string
    sealed: Uint8Array
    created_at: number
    used_at: number
    expires_at: number
  }
  clients: { id: string; sealed: Uint8Array; created_at: number; used_at: number | null; expires_at: number }
  authorization_records: {
    kind: string
    id: string
    tenant: string
    session: string | null
    user_code: string | null
    position: number
    sealed: Uint8Array
    expires_at: number
    consumed_at: number | null
  }
  user_names: { tenant: string; user: string; name: string; proof: string; seen_at: number }
  secrets: {
    tenant: string
    name: string
    version: number
    stage: string | null
    sealed: Uint8Array
    created_at: number
    token: string | null
  }
  secret_holders: {
    tenant: string
    backend: string
    secret: string
    holder: string
    server: string
    version: string
    until: number
  }
  leases: {
    id: string
    tenant: string
    user: string
    server: string
    downstream: string
    backend: string
    role: string
    state: string
    external: string | null
    sealed: Uint8Array | null
    duration: number
    created_at: number
    renewed_at: number
    used_at: number
    expires_at: number
    next_at: number
    attempts: number
    problem: string | null
    revision: number
    parent: string | null
  }
  backend_tokens: {
    accessor: string
    backend: string
    place: string
    sealed: Uint8Array | null
    ends_at: number
    next_at: number
    attempts: number
    revision: number
  }
  revocations: {
    id: string
    scope: string
    epoch: number
    by: string
    reason: string | null
    forget_at: number | null
    seq: number
  }
  disabled_users: { tenant: string; user: string; at: number; by: string }
  replays: { namespace: string; value: string; expires_at: number }
  unknown_callers: { id: string; facts: string; first_seen: number; last_seen: number; count: number }
  signing_keys: {
    kid: string
    purpose: string
    public_jwk: string
    sealed: Uint8Array
    created_at: number
    signs_until: number
    published_until: number
  }
  upstream_revocations: {
    id: string
    grant_id: string
    tenant: string
    provider: string
    sealed: Uint8Array
    attempts: number
    next_at: number
    state: string
    problem: string | null
  }
  audit_records: {
    node: string
    seq: number
    id: string
    at: number
    event: string
    outcome: string
    tenant: string | null
    user: string | null
    server: string | null
    downstream: string | null
    body: string
    hash: string
  }
  audit_positions: { node: string; sink: string; seq: number; hash: string; mark: string; proof: string }
  audit_checkpoints: {
    node: string
    number: number | null
    seq: number
    hash: string
    at: number
    kid: string
    signature: string
  }
  epochs: { name: string; value: number; token: string | null }
  standing_history: { number: number; token: string }
  store_servers: { identity: string; first_seen: number }
  store_losses: {
    id: string
    node: string
    at: number
    detail: string
    acknowledged_at: number | null
    acknowledged_by: string | null
  }
  nodes: {
    id: string
    lease_until: number
    seen: number
    started_at: number
    about: string
    seen_token: string | null
    seen_proof: string | null
    token: string | null
    configuration: string | null
    configured_at: number | null
  }
  rotation_targets: {
    tenant: string
    backend: string
    secret: string
    policy: string
    rotated_at: number | null
    next_at: number | null
    paused: string | null
  }
  rotations: {
    id: string
    tenant: string
    backend: string
    secret: string
    policy: string
    rotator: string
    reason: string
    step: string
    state: string
    old_version: string | null
    new_version: string | null
    problem: string | null
    attempts: number
    next_at: number
    grace_until: number | null
    started_at: number
    ended_at: number | null
    owner: string | null
    owner_until: number | null
    revision: number
    target: string | null
    turned_back: string | null
    sealed: Uint8Array | null
  }
  frozen_tenants: { tenant: string; at: number; by: string; reason: string | null }
}

export type Database = Kysely<Tables>

/** Queries that happen together or not at all, durable when it resolves. The one thing that a database adds to Kysely. */
export type Atomically = (queries: readonly Pick<CompiledQuery, 'sql' | 'parameters'>[]) => Promise<void>

/**
 * Inserts many rows into a table, all or none.
 * @param also made in the same transaction, where the store joins writes
 */
export type Batch = (
  table: keyof Tables,
  columns: readonly string[],
  rows: readonly (readonly unknown[])[],
  also?: readonly StoreWrite[],
) => Promise<void>

/** What a database calls the types that Kysely does not translate. */
export interface ColumnTypes {
  readonly bytes: ColumnDataType
  /** A number that counts up from 1, as a primary key. */
  readonly counter: ColumnDataType
  /** ms since the epoch. */
  readonly instant: ColumnDataType
  /** An expression of SQL: a text that was never drawn before. */
  readonly randomText: string
}

/** Changes of what may be handed out are numbered across all nodes; concurrent changes wait for each other at this row. */
export const STANDING = 'standing'

export const toJson = (value: unknown): string => JSON.stringify(value)
