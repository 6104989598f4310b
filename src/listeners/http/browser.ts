import { createHmac } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { Request, Response } from 'express'
import type { Random } from '#clock'
import { equalInConstantTime, lengthPrefixed, randomText, type Secret } from '#foundation/crypto'

/** `__Host-`: only over a secure channel, only this host, the whole of it (RFC 6265bis section 4.1.3.2). */
export const COOKIE = '__Host-deputy'

const sign = (id: string, key: Secret): string =>
  createHmac('sha256', Buffer.from(key.reveal(), 'base64')).update(lengthPrefixed('browser', id)).digest('base64url')

/** Tells browsers apart: a flow that one began, no other can go on with. */
export const createBrowsers = (options: { key: Secret; random: Random }) => {
  const read = (request: Pick<IncomingMessage, 'headers'>): string | undefined => {
    for (const pair of (request.headers.cookie ?? '').split(';')) {
      const [name, value] = pair.trim().split('=', 2)
      if (name !== COOKIE || value === undefined) continue
      const [id, signature] = value.split('.')
      if (id !== undefined && signature !== undefined && equalInConstantTime(signature, sign(id, options.key)))
        return id
    }
    return undefined
  }
  return {
    read,
    /** The browser's id; a browser without one gets one. */
    greet(request: Request, response: Response): string {
      const known = read(request)
      if (known !== undefined) return known
      const id = randomText(options.random, 18)
      response.append('Set-Cookie', `${COOKIE}=${id}.${sign(id, options.key)}; Path=/; Secure; HttpOnly; SameSite=Lax`)
      return id
    },
  }
}
