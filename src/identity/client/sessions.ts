import { z } from 'zod'
import type { Clock, Random } from '#clock'
import { type Envelope, randomText, Secret } from '#foundation/crypto'
import {
  type ClientSession,
  type ClientSessionFilter,
  clientSessionName,
  type ClientSessionStore,
} from '#foundation/store'
import { createLru } from '#foundation/lru'
import type { Logger } from '#foundation/telemetry'

const signInSchema = z.strictObject({
  id: z.string(),
  tenant: z.string(),
  /** As `claims.user` of the tenant's file names the user. */
  user: z.string(),
  display: z.string().optional(),
  client: z.string(),
  server: z.string(),
  /** Scopes of the server that the user has allowed the client. */
  scopes: z.array(z.string()),
  /** The identity provider at which the user has signed in. */
  issuer: z.string(),
  groups: z.array(z.string()),
  /** Claims of the sign-in, for policy. */
  claims: z.record(z.string(), z.unknown()),
  /** What the sign-in itself descends from: the session at the identity provider. */
  ancestors: z.array(z.string()),
  signedInAt: z.number(),
  expiresAt: z.number(),
})

/** A user's sign-in at an MCP client, for one server. Times are ms since the epoch. */
export type ClientSignIn = z.output<typeof signInSchema>
export type NewClientSignIn = Omit<ClientSignIn, 'id'>

export interface ClientSessions {
  begin(signIn: NewClientSignIn): Promise<ClientSignIn>
  /**
   * Undefined when it has ended, has expired, or was not written by Deputy. One that another node has ended can be found for a minute:
   * what ends a session is a revocation, and the caller has to ask `RevocationIndex`.
   */
  find(id: string): Promise<ClientSignIn | undefined>
  /** The last sign-in of a user at a client for a server. */
  latest(
    of: Required<Pick<ClientSessionFilter, 'tenant' | 'user' | 'client' | 'server'>>,
  ): Promise<ClientSignIn | undefined>
  /** All that fit, latest first; what cannot be read is left out. */
  list(filter: ClientSessionFilter, limit: number): Promise<ClientSignIn[]>
  /** Notes that the client has used it; more often than once in a minute it notes nothing. */
  used(id: string): Promise<void>
}

/** Sign-ins that are kept in memory, and for how long (ms). They never change, and the one who asks looks for revocations. */
const [RECENT, RECENT_MS] = [10_000, 60_000]
/** How often at most the last use of a session is written (ms). */
const TOUCH_MS = 60_000

/** The tenant of a session, which its id begins with: records that descend from it are sealed under the tenant's key. */
export const tenantOfSession = (id: string): string => id.slice(0, id.lastIndexOf('.'))

/**
 * Sign-ins that only Deputy can have written: each is sealed under its tenant's key, and what is sealed counts, not the row
 * around it. Who can write the store makes no sign-in and changes none.
 */
export const createClientSessions = (options: {
  readonly store: ClientSessionStore
  readonly envelope: Envelope
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
}): ClientSessions => {
  const { store, envelope, clock } = options
  const recent = createLru<string, ClientSignIn>({ max: RECENT, ttl: RECENT_MS })
  const touched = createLru<string, number>({ max: 10_000 })

  const open = async (row: ClientSession): Promise<ClientSignIn | undefined> => {
    try {
      const text = await envelope.open(clientSessionName(row), row.sealed)
      return signInSchema.parse(JSON.parse(text.reveal()))
    } catch (error) {
      options.logger.error({ err: error, session: row.id, tenant: row.tenant }, 'a client session cannot be read')
      return undefined
    }
  }

  const list: ClientSessions['list'] = async (filter, limit) => {
    const opened = await Promise.all((await store.list(filter, limit)).map(open))
    return opened.filter((signIn) => signIn !== undefined && signIn.expiresAt > clock.now()) as ClientSignIn[]
  }

  return {
    list,
    async latest(of) {
      const [last] = await list(of, 1)
      return last
    },
    async begin(signIn) {
      const id = `${signIn.tenant}.${randomText(options.random, 18)}`
      const made = signInSchema.parse({ ...signIn, id })
      const { tenant, user, client, server, signedInAt, expiresAt } = made
      const sealed = await envelope.seal(clientSessionName({ tenant, id }), new Secret(JSON.stringify(made)))
      await store.put({
        id,
        tenant,
        user,
        client,
        server,
        sealed,
        createdAt: signedInAt,
        usedAt: signedInAt,
        expiresAt,
      })
      touched.set(id, signedInAt)
      recent.set(id, made)
      return made
    },
    async find(id) {
      const known = recent.get(id)
      if (known !== undefined && known.expiresAt > clock.now()) return known
      const row = await store.find(id, clock.now())
      const signIn = row === undefined ? undefined : await open(row)
      if (signIn === undefined || signIn.id !== id || signIn.expiresAt <= clock.now()) return undefined
      recent.set(id, signIn)
      return signIn
    },
    async used(id) {
      const now = clock.now()
      if (now - (touched.get(id) ?? -Infinity) < TOUCH_MS) return
      touched.set(id, now)
      await store.touch(id, now)
    },
  }
}
