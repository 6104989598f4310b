import type { ExecMapping, ExecValue } from '#config'
import { fetchCredential, type FetchedCredential, type Session } from './session.ts'

/** Credentials by `credentialKey`. */
export type Credentials = ReadonlyMap<string, FetchedCredential>

/** What identifies a credential of a mapping: two values with the same downstream and scopes share one. */
export const credentialKey = ({ downstream, scopes }: Pick<ExecValue, 'downstream' | 'scopes'>): string =>
  JSON.stringify([downstream, scopes ?? null])

/** The values of a mapping, one for each credential. */
export const mappedValues = ({ env, files }: ExecMapping): ExecValue[] => [
  ...new Map([...Object.values(env), ...Object.values(files)].map((value) => [credentialKey(value), value])).values(),
]

export const isSame = (left: Credentials, right: Credentials): boolean =>
  left.size === right.size &&
  [...left].every(([key, { credential }]) => right.get(key)?.credential.reveal() === credential.reveal())

/**
 * What a child should have now: the tokens that it has, until they are due for renewal, and the current secrets.
 * @param now ms, monotonic
 */
export const keepValidTokens = (current: Credentials, fetched: Credentials, now: number): Credentials =>
  new Map(
    [...fetched].map(([key, each]) => {
      const known = current.get(key)
      return [key, known !== undefined && each.isToken && now < known.renewAt ? known : each]
    }),
  )

/** Fetches every credential of a session's mapping. @throws CommandError */
export const fetchCredentials = async (socketPath: string, session: Session, server: string): Promise<Credentials> =>
  new Map(
    await Promise.all(
      mappedValues(session.start.mapping).map(
        async (value) => [credentialKey(value), await fetchCredential(socketPath, session, server, value)] as const,
      ),
    ),
  )
