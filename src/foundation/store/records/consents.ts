import type { GrantFilter, GrantOwner } from './grants.ts'

/** What a user allowed a server to do at a downstream: kept apart from the grant, so that a dead grant does not ask anew. */
export interface Consent extends GrantOwner {
  /** Scopes that the page offered; those in `granted` were ticked. */
  readonly asked: readonly string[]
  readonly granted: readonly string[]
  readonly at: number
  readonly until: number
  /** That Deputy has written it: a keyed digest of all the rest; of consents for clients only. */
  readonly proof?: string
}

export interface ConsentStore {
  find(owner: GrantOwner): Promise<Consent | undefined>
  put(consent: Consent): Promise<void>
  list(filter: Omit<GrantFilter, 'provider' | 'id'>): Promise<Consent[]>
  remove(filter: Omit<GrantFilter, 'provider' | 'id'>): Promise<number>
}
