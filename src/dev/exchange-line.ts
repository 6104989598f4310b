/** One line of `deputy dev --explain` for each record of the audit log that is about a credential or a connection. */
import type { RecordView } from '#foundation/audit'
import { z } from 'zod'

const texts = z.array(z.string()).optional().catch(undefined)
const detailSchema = z.looseObject({
  asked: z
    .looseObject({ scopes: texts, tool: z.string().optional().catch(undefined) })
    .optional()
    .catch(undefined),
  decision: z.looseObject({ policies: texts }).optional().catch(undefined),
  credential: z
    .looseObject({ scopes: texts, cached: z.boolean().optional().catch(undefined) })
    .optional()
    .catch(undefined),
  error: z.looseObject({ code: z.string().optional(), message: z.string().optional() }).optional().catch(undefined),
})

/** Events that an author wants to see: credentials, connections, tools of APIs and sign-ins at MCP clients. */
const TOLD: readonly string[] = [
  'token.exchange',
  'token.client_credentials',
  'token.introspect',
  'client.token',
  'connect.complete',
  'connect.failed',
  'connect.refused',
  'connection.open',
  'exec.begin',
  'grant.refresh',
  'login',
  'proxy.connect',
  'revocation',
  'tool.call',
  'workload.unknown',
]

/** A check of the user's token that was fine comes with each call, and says nothing new. */
export const isExchange = ({ event, outcome }: RecordView): boolean =>
  TOLD.includes(event) && !(event === 'token.introspect' && outcome !== 'refused')

export interface ExchangeLine {
  readonly isRefused: boolean
  readonly text: string
}

/** The user, the server, the tool, the downstream, scopes, the decision with its reason, and the id for `deputy explain`. */
export const describeExchange = (row: RecordView): ExchangeLine => {
  const { asked, decision, credential, error } = detailSchema.safeParse(row.record.detail).data ?? {}
  const time = new Date(row.at).toISOString().slice(11, 19)
  const who = [row.user ?? '-', row.server ?? '-', asked?.tool ?? row.event].join(' > ')
  const scopes = credential?.scopes ?? asked?.scopes ?? []
  const what = [row.downstream, ...scopes].filter((each) => each !== null).join(' ')
  const isRefused = row.outcome === 'refused' || row.outcome === 'failed'
  const why = isRefused
    ? [error?.code, error?.message].filter((each) => each !== undefined).join(': ')
    : [decision?.policies?.join(', '), credential?.cached === true ? 'cached' : undefined]
        .filter((each) => each !== undefined && each !== '')
        .join(', ')
  const parts = [time, `${who}${what === '' ? '' : ` > ${what}`}`, `${row.outcome}${why === '' ? '' : ` (${why})`}`]
  return { isRefused, text: `${parts.join('  ')}  ${row.id}` }
}
