import type { Loaded } from '../loaded.ts'
import type { Problem } from '../problem.ts'
import { neededVariables } from '../provider.ts'
import { signInIssuer } from '../sign-in.ts'
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
    value.sign_in?.issuer === undefined || trusts(value.sign_in.issuer)
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

/** A plain OAuth provider at which users sign in: its file says how, and no token issuer has its name. */
const checkSignInProvider = (located: Located<Tenant>, { providers }: Loaded): Problem[] => {
  const { sign_in: signIn, issuers } = located.value
  if (signIn?.provider === undefined) return []
  const problem = problemsOf(located)
  const file = providers.get(signIn.provider)?.value
  if (file?.sign_in === undefined) {
    const able = [...providers].filter(([, each]) => each.value.sign_in !== undefined).map(([name]) => name)
    return [
      problem(
        ['sign_in', 'provider'],
        file === undefined
          ? `There is no provider ${signIn.provider}.`
          : `The file of the provider ${signIn.provider} does not say who has signed in.`,
        `Add sign_in to providers/${signIn.provider}.yaml, or name one of: ${list(able)}.`,
      ),
    ]
  }
  const missing = neededVariables(file).filter((name) => !Object.hasOwn(signIn.variables, name))
  if (missing.length > 0)
    return [
      problem(
        ['sign_in'],
        `The provider ${signIn.provider} needs the variable ${missing[0]}: ${file.variables[missing[0]!]!.meaning}`,
        `Write variables: { ${missing[0]}: … } under sign_in.`,
      ),
    ]
  const issuer = signInIssuer(located.value, new Map([[signIn.provider, file]]))
  return issuers.some((each) => each.issuer === issuer)
    ? [
        problem(
          ['sign_in', 'provider'],
          `Users of ${issuer} would have two names: the one that its tokens give them, and the one of the sign-in.`,
          `Write sign_in: { issuer: ${issuer} } in place of provider.`,
        ),
      ]
    : []
}

/** A domain decides which tenant's users sign in, so that it has to be one tenant's, or that of tenants with one client. */
const checkDomains = (located: Located<Tenant>, { tenants }: Loaded): Problem[] => {
  const { tenant, sign_in: signIn } = located.value
  return (signIn?.domains ?? []).flatMap((domain, at) => {
    const other = [...tenants.values()].find(
      ({ value }) =>
        value.tenant < tenant &&
        value.sign_in?.domains.includes(domain) === true &&
        (value.sign_in.issuer !== signIn!.issuer ||
          value.sign_in.provider !== signIn!.provider ||
          value.sign_in.client_id !== signIn!.client_id),
    )
    return other === undefined
      ? []
      : problemsOf(located)(
          ['sign_in', 'domains', at],
          `${domain} is a domain of ${other.value.tenant} as well, whose users sign in elsewhere.`,
          'Leave it to one of the two.',
        )
  })
}

/** The issuers of each tenant. */
export const checkTenants = (loaded: Loaded): Problem[] =>
  [...loaded.tenants.values()].flatMap((located) => [
    ...untrustedIssuers(located),
    ...checkSignInProvider(located, loaded),
    ...checkDomains(located, loaded),
    ...unsafeIssuers(located, loaded),
  ])
