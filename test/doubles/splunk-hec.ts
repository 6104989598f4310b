/**
 * The HTTP Event Collector of Splunk, as its manuals describe it:
 * - the form of events and of the request: https://docs.splunk.com/Documentation/Splunk/latest/Data/FormateventsforHTTPEventCollector
 * - the answers and their codes: https://docs.splunk.com/Documentation/Splunk/latest/Data/TroubleshootHTTPEventCollector
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { z } from 'zod'

const eventSchema = z.strictObject({
  time: z.number().optional(),
  host: z.string().optional(),
  source: z.string().optional(),
  sourcetype: z.string().optional(),
  index: z.string().optional(),
  event: z.union([z.string(), z.looseObject({})]),
  fields: z.record(z.string(), z.union([z.string(), z.array(z.string())])).optional(),
})
export type HecEvent = z.output<typeof eventSchema>

const ANSWERS = {
  success: [200, 0, 'Success'],
  tokenRequired: [401, 2, 'Token is required'],
  invalidAuthorization: [401, 3, 'Invalid authorization'],
  invalidToken: [403, 4, 'Invalid token'],
  noData: [400, 5, 'No data'],
  invalidData: [400, 6, 'Invalid data format'],
  incorrectIndex: [400, 7, 'Incorrect index'],
  busy: [503, 9, 'Server is busy'],
  blankEvent: [400, 13, 'Event field cannot be blank'],
} as const

/** Objects one after the other, with or without white space between. */
const objectsIn = (body: string): string[] => {
  const found: string[] = []
  let [depth, from, inText] = [0, 0, false]
  for (let at = 0; at < body.length; at += 1) {
    const character = body[at]
    if (inText) {
      if (character === '\\') at += 1
      else if (character === '"') inText = false
    } else if (character === '"') inText = true
    else if (character === '{' && (depth += 1) === 1) from = at
    else if (character === '}' && (depth -= 1) === 0) found.push(body.slice(from, at + 1))
  }
  return found
}

/** A collector that knows one token and one index. @param isBusy whether its queues are full */
export const createHec = (options: { token: string; index: string; isBusy?: () => boolean }) => {
  const events: HecEvent[] = []
  const outcome = (body: string, { headers, url, method }: IncomingMessage): keyof typeof ANSWERS => {
    if (method !== 'POST' || url !== '/services/collector/event') return 'invalidData'
    const [scheme, token] = (headers.authorization ?? '').split(' ')
    if (headers.authorization === undefined) return 'tokenRequired'
    if (scheme !== 'Splunk') return 'invalidAuthorization'
    if (token !== options.token) return 'invalidToken'
    if (options.isBusy?.() === true) return 'busy'
    const read: HecEvent[] = []
    for (const text of objectsIn(body)) {
      const parsed = eventSchema.safeParse(JSON.parse(text))
      if (!parsed.success) return 'invalidData'
      if (parsed.data.index !== undefined && parsed.data.index !== options.index) return 'incorrectIndex'
      if (parsed.data.event === '') return 'blankEvent'
      read.push(parsed.data)
    }
    if (read.length === 0) return 'noData'
    events.push(...read)
    return 'success'
  }
  return {
    events,
    answer(body: string, response: ServerResponse, request: IncomingMessage): void {
      const [status, code, text] = ANSWERS[outcome(body, request)]
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify({ text, code }))
    },
  }
}
