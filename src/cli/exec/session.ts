import { z } from 'zod'
import { execSchema, type ExecValue } from '#config'
import { Secret } from '#foundation/crypto'
import { callDaemon, follow } from '../socket-client.ts'

const firstSchema = z.looseObject({
  event: z.literal('session'),
  session: z.string(),
  token: z.string().transform((text) => new Secret(text)),
  tenant: z.string(),
  user: z.string().nullable(),
  mapping: execSchema,
  warning: z.string().optional(),
  proxy: z.looseObject({ url: z.string(), ca: z.string() }).optional(),
})
const laterSchema = z.discriminatedUnion('event', [
  z.looseObject({ event: z.literal('changed'), downstream: z.string() }),
  z.looseObject({
    event: z.literal('ended'),
    reason: z.string().optional(),
    error_description: z.string().optional(),
    next: z.string().optional(),
  }),
])
const tokenSchema = z.looseObject({ access_token: z.string(), token_type: z.string(), expires_in: z.number() })

export type SessionStart = z.output<typeof firstSchema>
export type SessionEvent = z.output<typeof laterSchema>

/** A session with the daemon, for as long as its connection. */
export interface Session {
  readonly start: SessionStart
  close(): void
}

/** @param listener.gone called when the daemon has gone away without having ended the session. @throws CommandError */
export const openSession = (
  socketPath: string,
  order: { server: string; pid: number; resume?: Secret },
  listener: { event(event: SessionEvent): void; gone(): void },
): Promise<Session> =>
  new Promise((resolve, reject) => {
    const { server, pid, resume } = order
    let session: Session | undefined
    let over = false
    follow(
      socketPath,
      {
        path: '/exec',
        form: { server, pid: String(pid), ...(resume === undefined ? {} : { resume: resume.reveal() }) },
      },
      {
        line(value, close) {
          if (session === undefined) {
            const parsed = firstSchema.safeParse(value)
            if (!parsed.success) {
              close()
              reject(new Error('the first line of the answer is not a session'))
              return
            }
            session = {
              start: parsed.data,
              close() {
                over = true
                close()
              },
            }
            resolve(session)
            return
          }
          const event = laterSchema.safeParse(value).data
          if (event === undefined || over) return
          if (event.event === 'ended') over = true
          listener.event(event)
        },
        closed() {
          if (session === undefined) reject(new Error('the daemon closed the connection'))
          else if (!over) {
            over = true
            listener.gone()
          }
        },
      },
    ).catch(reject)
  })

/** A credential. A token is valid until its end, also after another one was issued; a secret may have been replaced. */
export interface FetchedCredential {
  readonly credential: Secret
  readonly isToken: boolean
  /** When it is renewed, by this process's clock (ms, monotonic). */
  readonly renewAt: number
}

/** How long before its end a credential is renewed (ms), or at which part of its life: the daemon issues another one within that time. */
const RENEWAL_MARGIN_MS = 25_000
const RENEWAL_MARGIN_PART = 0.08

const asSession = {
  grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
  subject_token: 'current',
  subject_token_type: 'urn:deputy:params:oauth:token-type:login-session',
}
const asServer = { grant_type: 'client_credentials' }

/** Requests a credential as the session's server. @throws CommandError */
export const fetchCredential = async (
  socketPath: string,
  { start }: Session,
  server: string,
  { downstream, scopes }: Pick<ExecValue, 'downstream' | 'scopes'>,
): Promise<FetchedCredential> => {
  const began = performance.now()
  const answer = await callDaemon(
    socketPath,
    {
      path: '/oauth2/token',
      form: {
        ...(start.mapping.on_behalf_of === 'session' ? asSession : asServer),
        audience: downstream,
        client_id: server,
        client_secret: start.token.reveal(),
        ...(scopes === undefined || scopes.length === 0 ? {} : { scope: scopes.join(' ') }),
      },
    },
    tokenSchema,
  )
  const life = answer.expires_in * 1000
  return {
    credential: new Secret(answer.access_token),
    isToken: answer.token_type !== 'N_A',
    renewAt: began + life - Math.min(RENEWAL_MARGIN_MS, life * RENEWAL_MARGIN_PART),
  }
}
