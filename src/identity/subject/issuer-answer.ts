import { DeputyError, refuse } from '#errors'
import { type Egress, struck, told } from '#foundation/outbound'

/** Statuses with which a server, or a proxy before it, says that it cannot answer now. */
const BUSY = new Set([408, 425, 429])

/** Why an issuer could not be asked, or what in its answer is not what an issuer says. No secret is in it. */
export class IssuerFault extends Error {
  readonly reached: boolean
  /** What was answered, without secrets. */
  readonly answered: string | undefined
  constructor(problem: string, more: { reached: boolean; answered?: string; cause?: unknown }) {
    super(problem, more.cause === undefined ? {} : { cause: more.cause })
    this.reached = more.reached
    this.answered = more.answered
  }
}

/** The code of what went wrong on the way, such as ECONNREFUSED or CERT_HAS_EXPIRED, else its words. */
const causeOf = (error: unknown): string => {
  if (error instanceof DeputyError) return error.message
  for (let each = error; each instanceof Error; each = each.cause)
    if ('code' in each && typeof each.code === 'string') return each.code
  return error instanceof Error && error.name === 'TimeoutError' ? 'it did not answer in time' : 'no answer came'
}

/**
 * An answer of an issuer, as JSON.
 * @param what the answer is, for the message
 * @throws IssuerFault
 */
export const readIssuerJson = async (
  egress: Egress,
  url: string,
  what: string,
  init: RequestInit = { headers: { accept: 'application/json' } },
): Promise<unknown> => {
  let response: Response
  let text: string
  try {
    response = await egress(url, init)
    text = await response.text()
  } catch (error) {
    throw new IssuerFault(causeOf(error), { reached: false, cause: error })
  }
  const answered = `${response.status} ${struck(response.headers.get('content-type') ?? '')} ${told(text)}`.trim()
  if (!response.ok)
    throw new IssuerFault(`${what} at ${url} answered ${response.status}`, {
      reached: response.status < 500 && !BUSY.has(response.status),
      answered,
    })
  try {
    return JSON.parse(text)
  } catch {
    throw new IssuerFault(`${what} at ${url} is no JSON`, { reached: true, answered })
  }
}

/** The refusal that a fault comes to. @param seconds after which asking again is worth it */
export const refusalOfFault = (issuer: string, error: unknown, seconds: number): DeputyError => {
  const fault = error instanceof IssuerFault ? error : new IssuerFault(causeOf(error), { reached: false, cause: error })
  return refuse(
    fault.reached ? 'issuer_not_understood' : 'issuer_unreachable',
    {
      issuer,
      seconds,
      problem: fault.message.replace(/\.$/, ''),
      ...(fault.answered === undefined ? {} : { answered: fault.answered }),
    },
    fault,
  )
}
