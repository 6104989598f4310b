import { OWN_TENANT, type RecordName } from '#foundation/crypto'

/** A token with which a backend was asked for leases: they end with it, so it is renewed until they are over. */
export interface BackendToken {
  /** The backend's public name of it; no secret. */
  readonly accessor: string
  /** Id of the backend. */
  readonly backend: string
  /** Address and namespace that issued it. It is sent nowhere else. */
  readonly place: string
  /** The token, sealed under `backendTokenName`; null where the settings name it. */
  readonly sealed: Uint8Array | null
  /** When it ends unless it is renewed. */
  readonly endsAt: number
  /** From when on any node looks after it: the node that uses it is late. */
  readonly nextAt: number
  readonly attempts: number
  /** Counts the writes; an update must name the one that it read. */
  readonly revision: number
}

/** What its ciphertext is bound to: a change of the settings, or of the store, sends it to no other server. */
export const backendTokenName = ({
  accessor,
  backend,
  place,
}: Pick<BackendToken, 'accessor' | 'backend' | 'place'>): RecordName => ({
  tenant: OWN_TENANT,
  kind: 'backend-token',
  id: JSON.stringify([accessor, backend, place]),
})

export interface BackendTokenStore {
  /** Kept anew, or with these times. */
  put(token: BackendToken): Promise<void>
  find(accessor: string): Promise<BackendToken | undefined>
  /** Writes only if the stored revision still is `token.revision`. @returns whether it did */
  update(token: BackendToken): Promise<boolean>
  remove(accessor: string): Promise<void>
  /** Those of a backend that are to be looked after. */
  due(backend: string, now: number, limit: number): Promise<BackendToken[]>
}
