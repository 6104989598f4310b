import { z } from 'zod'
import { type Envelope, Secret } from '#foundation/crypto'
import type { Session, SessionStore } from '#foundation/store'
import type { Logger } from '#foundation/telemetry'

const sessionSchema = z.strictObject({
  uid: z.number(),
  tenant: z.string(),
  user: z.string(),
  issuer: z.string(),
  groups: z.array(z.string()),
  claims: z.record(z.string(), z.unknown()),
  signedInAt: z.number(),
  expiresAt: z.number(),
})

/**
 * Login sessions that only Deputy can have written: each is sealed under its tenant's key and bound to the machine and the
 * Unix user, and what is sealed counts, not the row around it. Who can write the store makes no session and changes none.
 * @param options.node the machine whose Unix users they are of
 */
export const createSealedSessions = (options: {
  readonly store: SessionStore
  readonly envelope: Envelope
  readonly node: string
  readonly logger: Logger
}): SessionStore => {
  const { store, envelope } = options
  const nameOf = (tenant: string, uid: number) => ({ tenant, kind: 'session', id: `${options.node}/${uid}` })

  const open = async ({ uid, tenant, sealed }: Session): Promise<Session | undefined> => {
    if (sealed === undefined) return undefined
    try {
      return sessionSchema.parse(JSON.parse((await envelope.open(nameOf(tenant, uid), sealed)).reveal()))
    } catch (error) {
      options.logger.error({ err: error, uid, tenant }, 'a login session in the store was not written by Deputy')
      return undefined
    }
  }

  return {
    ...store,
    async put({ sealed: _, ...session }) {
      const text = new Secret(JSON.stringify(sessionSchema.parse(session)))
      await store.put({ ...session, sealed: await envelope.seal(nameOf(session.tenant, session.uid), text) })
    },
    async find(uid, now) {
      const row = await store.find(uid, now)
      const session = row === undefined ? undefined : await open(row)
      return session !== undefined && session.uid === uid && session.expiresAt > now ? session : undefined
    },
  }
}
