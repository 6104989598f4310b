import type { Loaded } from '../loaded.ts'
import type { Problem } from '../problem.ts'
import type { Tenant } from '../tenant.ts'
import type { Located } from '../yaml-file.ts'
import { list, problemsOf } from './names.ts'

const namesOf = ({ issuers }: Tenant): string => list(issuers.map(({ issuer }) => issuer))

/** Issuers that sign-in, identity assertions and security events name and that the tenant does not trust. */
const untrustedIssuers = (located: Located<Tenant>): Problem[] => {
  const { value } = located
  const problem = problemsOf(located)
  const trusts = (name: string | undefined): boolean => value.issuers.some(({ issuer }) => issuer === name)
  const signIn =
    value.sign_in === undefined || trusts(value.sign_in.issuer)
      ? []
      : [
          problem(
            ['sign_in', 'issuer'],
            `sign_in.issuer is not one of the tenant's issuers (${namesOf(value)}).`,
            'Add it to `issuers`, or correct it.',
          ),
        ]
  const assertions = (value.identity_assertions?.issuers ?? []).flatMap((taken, at) =>
    trusts(taken)
      ? []
      : problem(
          ['identity_assertions', 'issuers', at],
          `Assertions of ${taken} would be accepted, and it is not one of the tenant's issuers (${namesOf(value)}).`,
          'Add it to `issuers`, or correct it.',
        ),
  )
  const transmitters = value.signals.flatMap(({ issuer, users_of: about = issuer }, at) =>
    trusts(about)
      ? []
      : problem(
          ['signals', at, 'issuer'],
          `The transmitter ${issuer} reports events about users of ${about}, which is not one of the tenant's issuers.`,
          'Name the issuer in `users_of`, or add it to `issuers`.',
        ),
  )
  return [...signIn, ...assertions, ...transmitters]
}

/** Issuers that several tenants trust without a claim that tells their users apart, and issuers at plain http. */
const unsafeIssuers = (located: Located<Tenant>, { tenants, settings }: Loaded): Problem[] => {
  const { value } = located
  const problem = problemsOf(located)
  const sharing = (issuer: string): string[] =>
    [...tenants.values()]
      .filter(
        (other) => other.value.tenant !== value.tenant && other.value.issuers.some((each) => each.issuer === issuer),
      )
      .map((other) => other.value.tenant)
  return value.issuers.flatMap(({ issuer, claims }, at) => {
    const path = ['issuers', at, 'issuer']
    const others = claims.tenant === undefined ? sharing(issuer) : []
    return [
      ...(others.length === 0
        ? []
        : [
            problem(
              path,
              `${list(others)} trusts ${issuer} as well, and nothing says which of its users are ${value.tenant}'s.`,
              `Name the claim that does: claims: { tenant: { claim: org_id, value: ${value.tenant} } }.`,
            ),
          ]),
      ...(!issuer.startsWith('http:') || settings.value.network.allow_loopback
        ? []
        : [
            problem(
              path,
              `The issuer ${issuer} is plain http.`,
              'Write its https URL; for development set network.allow_loopback: true in deputy.yaml.',
            ),
          ]),
    ]
  })
}

/** The issuers of each tenant. */
export const checkTenants = (loaded: Loaded): Problem[] =>
  [...loaded.tenants.values()].flatMap((located) => [...untrustedIssuers(located), ...unsafeIssuers(located, loaded)])
