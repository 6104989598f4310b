import type { Grant, GrantStore } from '#foundation/store'

/**
 * `ended`: it was revoked, or the user has connected again, and its new tokens are ended at the provider. `written`: the store
 * had lost it, and has it again. `back`: another node has written it meanwhile, and the caller compares the stored grant.
 */
export type Gone = { readonly kind: 'ended' | 'back' } | { readonly kind: 'written'; readonly grant: Grant }

/**
 * What becomes of a grant that was refreshed and has no row any more. A missing row proves no revocation: a store that has lost
 * commits has not lost the user's consent, and ending the grant at its provider would.
 */
export const createGoneGrants =
  (deps: {
    readonly grants: Pick<GrantStore, 'find' | 'get' | 'put'>
    /** Knows every revocation that was recorded before it was asked. */
    readonly isRevoked: (grant: Grant) => Promise<boolean>
    /** Ends the tokens in a grant, when no other grant is in use that would end with them. */
    readonly endSealed: (grant: Grant) => Promise<boolean>
  }) =>
  /** @param grant with what the provider has answered sealed in it @param endRevoked ends just that at the provider */
  async (grant: Grant, endRevoked: () => Promise<void>): Promise<Gone> => {
    if (await deps.isRevoked(grant)) {
      await endRevoked()
      return { kind: 'ended' }
    }
    if ((await deps.grants.get(grant.id)) !== undefined) return { kind: 'back' }
    if ((await deps.grants.find(grant)) !== undefined) {
      await deps.endSealed(grant)
      return { kind: 'ended' }
    }
    return { kind: 'written', grant: await deps.grants.put(grant) }
  }
