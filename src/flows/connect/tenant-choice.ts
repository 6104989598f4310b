import { domainToASCII } from 'node:url'
import type { SignInSettings, Tenant } from '#config'

/** What is known about the organization of a user who has not signed in yet. */
export interface TenantHints {
  /** The tenant that the user has chosen on the page. */
  readonly chosen: string | undefined
  /** An e-mail address: what the user has typed, or what the client has named (`login_hint`). */
  readonly email: string | undefined
}

export type TenantChoice =
  /** All of them sign in with the same client of the same provider: the sign-in says which of them it is. */
  | { readonly kind: 'sign_in'; readonly tenants: readonly [Tenant, ...Tenant[]] }
  /** The user chooses by name. */
  | { readonly kind: 'names'; readonly tenants: readonly Tenant[] }
  /** The user types the e-mail address. @param unknown the domain that belongs to no tenant */
  | { readonly kind: 'email'; readonly unknown: string | undefined }
  | { readonly kind: 'none' }

/** One client at one identity provider. */
const clientKey = ({ issuer, provider, variables, client_id: id }: SignInSettings): string =>
  JSON.stringify([
    issuer,
    provider,
    Object.keys(variables)
      .toSorted()
      .map((name) => [name, variables[name]]),
    id,
  ])

/** Whether users of two tenants sign in with the same client of the same provider. */
export const sharesSignIn = (one: Tenant, other: Tenant): boolean =>
  one.sign_in !== undefined && other.sign_in !== undefined && clientKey(one.sign_in) === clientKey(other.sign_in)

/** The domain of an e-mail address, in the form in which files have it; undefined for any other text. */
export const emailDomain = (email: string | undefined): string | undefined => {
  const [, domain] = /^[^\s@]{1,256}@([^\s@]{1,253})$/.exec(email?.trim() ?? '') ?? []
  const ascii = domainToASCII(domain ?? '')
    .toLowerCase()
    .replace(/\.$/, '')
  return ascii === '' ? undefined : ascii
}

/** Those that sign in with the first one's client. */
const together = (tenants: readonly Tenant[], all: readonly Tenant[]): TenantChoice => {
  const [first] = tenants
  if (first === undefined) return { kind: 'none' }
  if (tenants.some((tenant) => !sharesSignIn(tenant, first))) return { kind: 'names', tenants }
  const others = all.filter((tenant) => tenant !== first && sharesSignIn(tenant, first))
  return { kind: 'sign_in', tenants: [first, ...others] }
}

/**
 * Which tenant's users sign in, of those that a server serves. A tenant with domains is never named to a person who has not shown an
 * address of it: a page that lists the customers of a server would tell them to the world.
 */
export const chooseTenant = (candidates: readonly Tenant[], { chosen, email }: TenantHints): TenantChoice => {
  const listed = candidates.filter(({ sign_in: signIn }) => signIn?.domains.length === 0)
  const all = together(candidates, candidates)
  if (all.kind !== 'names') return all
  if (chosen !== undefined)
    return together(
      listed.filter(({ tenant }) => tenant === chosen),
      candidates,
    )
  if (listed.length === candidates.length) return all
  const domain = emailDomain(email)
  if (domain === undefined) return { kind: 'email', unknown: undefined }
  const found = candidates.filter(({ sign_in: signIn }) => signIn?.domains.includes(domain))
  if (found.length > 0) return together(found, candidates)
  return listed.length === 0 ? { kind: 'email', unknown: domain } : together(listed, candidates)
}
