import type { ServerResponse } from 'node:http'

/** What stands in place of the next answer. */
export type SpoiltAnswer =
  | 'html'
  | 'error with 200'
  | 'another token type'
  | 'no expiry'
  | 'expired'
  | 'surplus scope'
  | 'huge'
  | 'redirect'
  | 'half'
  | 'nothing'
  | 'not JSON'
  | 'no token'
  | 'for somebody else'
  | 'busy'
  | 'failing'

/** An answer in all the forms that it can be spoiled to; what a source's answers do not have is left out. */
export interface Forms {
  readonly type: string
  /** A success is this status. */
  readonly status: number
  readonly whole: string
  readonly spoilt: Partial<Readonly<Record<SpoiltAnswer, string>>>
}

/** Answers as told, in the same words for every source. */
export const answerSpoilt = (
  response: ServerResponse,
  how: SpoiltAnswer | undefined,
  { type, status, whole, spoilt }: Forms,
): void => {
  const send = (as: number, body: string, headers: Readonly<Record<string, string>> = {}): void => {
    response.writeHead(as, { 'content-type': type, ...headers }).end(body)
  }
  switch (how) {
    case undefined:
      send(status, whole)
      return
    case 'html':
      send(200, `<html>${whole}</html>`, { 'content-type': 'text/html' })
      return
    case 'huge':
      send(status, `${whole}${' '.repeat(3_000_000)}`)
      return
    case 'redirect':
      send(307, '', { location: 'https://elsewhere.example/token' })
      return
    case 'half':
      response.writeHead(status, { 'content-type': type, 'content-length': '5000' }).write(whole.slice(0, 60))
      response.destroy()
      return
    case 'nothing':
      response.destroy()
      return
    case 'not JSON':
      send(status, whole.slice(1, 90))
      return
    case 'busy':
      send(429, '', { 'retry-after': '1' })
      return
    case 'failing':
      send(500, whole)
      return
    default: {
      const body = spoilt[how]
      if (body === undefined) throw new Error(`this source's answers are never ${how}`)
      send(how === 'error with 200' ? 200 : status, body)
    }
  }
}
