import type { Problem } from './problem.ts'
import type { Snapshot } from './snapshot.ts'

/** Issuers at which every person can have an account, and the claim that names the organization of one. */
const OPEN_ISSUERS: ReadonlyMap<string, string> = new Map([['https://accounts.google.com', 'hd']])

/** The claim that names the organization of an account, at an issuer where every person can have one; else undefined. */
export const openIssuerClaim = (issuer: string): string | undefined => OPEN_ISSUERS.get(issuer)

/** Tenants to which every account of an open issuer belongs (promise 8). */
export const openIssuerWarnings = ({ tenants }: Pick<Snapshot, 'tenants'>): Problem[] =>
  [...tenants.values()].flatMap(({ tenant, issuers }) =>
    issuers.flatMap(({ issuer, claims }) => {
      const claim = OPEN_ISSUERS.get(issuer)
      return claim === undefined || claims.tenant !== undefined
        ? []
        : [
            {
              file: 'tenants',
              line: 1,
              message: `Every account of ${issuer} that may sign in at your application counts as a user of ${tenant}.`,
              fix: `Name the organization: claims: { tenant: { claim: ${claim}, value: … } }.`,
            },
          ]
    }),
  )
