import { createLru } from '#foundation/lru'
import type { Clock } from '#clock'
import { type Fingerprint, Secret } from '#foundation/crypto'
import type { UserNameStore } from '#foundation/store'
import { foldName } from '#foundation/text'
import { displayNameOf, userOf } from './claims.ts'
import type { WatchClaims } from './claim-watch.ts'

const DAY_MS = 86_400_000
/** A user who was not seen for so long is known by the id alone (ms). */
export const NAME_MEMORY_MS = 400 * DAY_MS

/** A user's id, and the tenant that it belongs to. */
export interface NamedUser {
  readonly tenant: string
  readonly user: string
}

/**
 * Texts that people take for the same are one name, so that all of their users are found: a command does not act on the user
 * who has chosen another's name in another case.
 */
const normalized = foldName

const fingerprintsFor = (fingerprint: Fingerprint) => ({
  ofName: (name: string): string => fingerprint(new Secret(JSON.stringify(['user name', name]))),
  ofRow: (tenant: string, user: string, name: string): string =>
    fingerprint(new Secret(JSON.stringify(['user of a name', tenant, user, name]))),
})

/**
 * The users of a name (`claims.display` of the tenant's file). Who has which name is the word of the identity provider,
 * where users may be able to choose it: a name therefore decides nothing but which id a command of an admin is about, an
 * id counts before it, and a name of several users is for the admin to resolve.
 */
export const createUserDirectory = (deps: { readonly names: UserNameStore; readonly fingerprint: Fingerprint }) => {
  const { ofName, ofRow } = fingerprintsFor(deps.fingerprint)
  return {
    /** @param tenant undefined: of every tenant */
    async usersNamed(text: string, tenant: string | undefined): Promise<NamedUser[]> {
      const name = normalized(text)
      const rows = await deps.names.list({ name: ofName(name), ...(tenant === undefined ? {} : { tenant }) })
      return rows
        .filter((row) => row.proof === ofRow(row.tenant, row.user, name))
        .map((row) => ({ tenant: row.tenant, user: row.user }))
    },
    /** Whether the text is the id of a user who has a name. */
    isUser: (tenant: string, user: string): Promise<boolean> => deps.names.has(tenant, user),
  }
}
export type UserDirectory = ReturnType<typeof createUserDirectory>

/** Writes down the name in each verified token or sign-in: once a day, and when it changes. No request waits for it. */
export const createNameRecorder = (deps: {
  readonly names: UserNameStore
  readonly fingerprint: Fingerprint
  readonly clock: Clock
  /** Lets the work run on; what fails is logged. */
  readonly inBackground: (work: Promise<unknown>) => void
}): WatchClaims => {
  const { ofName, ofRow } = fingerprintsFor(deps.fingerprint)
  const written = createLru<string, { name: string; at: number }>({ max: 10_000 })
  return (tenant, issuer, claims) => {
    const display = displayNameOf(claims, issuer)
    if (display === undefined) return
    const [user, name, now] = [userOf(claims, issuer), normalized(display), deps.clock.now()]
    const key = JSON.stringify([tenant, user])
    const last = written.get(key)
    if (last?.name === name && now - last.at < DAY_MS) return
    written.set(key, { name, at: now })
    deps.inBackground(
      deps.names
        .put({ tenant, user, name: ofName(name), proof: ofRow(tenant, user, name), seenAt: now })
        .catch((error: unknown) => {
          written.delete(key)
          throw error
        }),
    )
  }
}
