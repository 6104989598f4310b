import { type Server, servesTenant, type Snapshot, type Tenant, type TrustedIssuer } from '#config'
import { refuse } from '#errors'
import { claimAt } from '#foundation/text'

/** A tenant, and one of the issuers that it trusts. */
export interface Trusting {
  readonly tenant: Tenant
  readonly issuer: TrustedIssuer
}

type Claims = Readonly<Record<string, unknown>>

/** Whether the claims are of the tenant that trusts this issuer. */
export const isOfTenant = (claims: Claims, { claims: mapping }: TrustedIssuer): boolean =>
  mapping.tenant === undefined || claimAt(claims, mapping.tenant.claim) === mapping.tenant.value

/**
 * The tenant of a token: of those that trust its issuer, the one whose tenant claim it carries.
 * @throws DeputyError `subject_tenant_unknown` when none or more than one fits
 */
export const tenantOf = (claims: Claims, trusting: readonly Trusting[]): Trusting => {
  const [fitting, another] = trusting.filter(({ issuer }) => isOfTenant(claims, issuer))
  if (fitting === undefined || another !== undefined) throw refuse('subject_tenant_unknown')
  return fitting
}

/** Whom a server may act for: tenants that it serves, with the issuers that they trust. */
export interface Trust {
  readonly all: readonly Trusting[]
  of(issuer: unknown): readonly Trusting[]
  /** As `tenantOf` among those of the issuer, without looking at each of thousands of tenants. */
  tenantOf(issuer: unknown, claims: Claims): Trusting
}

/** Tenants of one issuer by the claim and value that they ask for. */
const byClaim = (trusting: readonly Trusting[]) => {
  const values = new Map<string, Map<unknown, Trusting[]>>()
  for (const each of trusting) {
    const { tenant } = each.issuer.claims
    if (tenant === undefined) continue
    const ofClaim = values.get(tenant.claim) ?? new Map<unknown, Trusting[]>()
    values.set(tenant.claim, ofClaim)
    ofClaim.set(tenant.value, [...(ofClaim.get(tenant.value) ?? []), each])
  }
  const unnamed = trusting.filter(({ issuer }) => issuer.claims.tenant === undefined)
  return (claims: Claims): Trusting[] => [
    ...unnamed,
    ...[...values].flatMap(([claim, ofClaim]) => ofClaim.get(claimAt(claims, claim)) ?? []),
  ]
}

const build = (server: Server, snapshot: Snapshot): Trust => {
  const all = [...snapshot.tenants.values()]
    .filter(({ tenant, enabled }) => enabled && servesTenant(server.tenants, tenant))
    .flatMap((tenant) => tenant.issuers.map((issuer) => ({ tenant, issuer })))
  const byIssuer = new Map<unknown, Trusting[]>()
  for (const each of all) {
    const known = byIssuer.get(each.issuer.issuer)
    if (known === undefined) byIssuer.set(each.issuer.issuer, [each])
    else known.push(each)
  }
  const fitting = new Map([...byIssuer].map(([issuer, trusting]) => [issuer, byClaim(trusting)]))
  return {
    all,
    of: (issuer) => byIssuer.get(issuer) ?? [],
    tenantOf: (issuer, claims) => tenantOf(claims, fitting.get(issuer)?.(claims) ?? []),
  }
}

const known = new WeakMap<Snapshot, Map<string, Trust>>()

/** The trust of a server in a configuration, worked out once. */
export const trustOf = (server: Server, snapshot: Snapshot): Trust => {
  let ofSnapshot = known.get(snapshot)
  if (ofSnapshot === undefined) known.set(snapshot, (ofSnapshot = new Map()))
  let trust = ofSnapshot.get(server.server)
  if (trust === undefined) ofSnapshot.set(server.server, (trust = build(server, snapshot)))
  return trust
}
