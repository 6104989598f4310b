/**
 * The notes service's API, which takes the service's own access tokens alone: `GET /api/notes`, `POST /api/notes` and
 * `DELETE /api/notes`. Errors are those of RFC 6750 section 3.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { text } from 'node:stream/consumers'
import type { Provider } from 'oidc-provider'
import { z } from 'zod'
import type { KeptRecords } from './kept-records.ts'

export const API_PATH = '/api'
const NOTES_PATH = `${API_PATH}/notes`

const noteSchema = z.object({ text: z.string().min(1).max(1000) })
const notesSchema = z.object({ notes: z.array(z.string()) })
const MAX_BYTES = 10_000
/** The latest are kept. */
const MAX_NOTES = 100

const NEEDED: Readonly<Record<string, string>> = { GET: 'notes:read', POST: 'notes:write', DELETE: 'notes:write' }

const answer = (response: ServerResponse, status: number, body?: object, challenge?: string): void => {
  const headers = {
    'cache-control': 'no-store',
    ...(challenge === undefined ? {} : { 'www-authenticate': `Bearer ${challenge}` }),
    ...(body === undefined ? {} : { 'content-type': 'application/json' }),
  }
  response.writeHead(status, headers).end(body === undefined ? undefined : JSON.stringify(body))
}

const readNote = async (request: IncomingMessage): Promise<string | undefined> => {
  if (Number(request.headers['content-length'] ?? MAX_BYTES) >= MAX_BYTES) return undefined
  try {
    return noteSchema.parse(JSON.parse(await text(request))).text
  } catch {
    return undefined
  }
}

/** @returns whether the path was one of the API's */
export const createNotesApi =
  (records: KeptRecords) =>
  async (provider: Provider, request: IncomingMessage, response: ServerResponse): Promise<boolean> => {
    const path = request.url?.split('?', 1)[0] ?? ''
    if (path !== API_PATH && !path.startsWith(`${API_PATH}/`)) return false
    const scope = NEEDED[request.method ?? '']
    if (path !== NOTES_PATH || scope === undefined) {
      answer(response, path === NOTES_PATH ? 405 : 404, { error: path === NOTES_PATH ? 'method' : 'not_found' })
      return true
    }
    const value = /^Bearer (\S+)$/i.exec(request.headers.authorization ?? '')?.[1]
    const token = value === undefined ? undefined : await provider.AccessToken.find(value)
    if (token?.isValid !== true) {
      const challenge = value === undefined ? 'realm="notes"' : 'error="invalid_token"'
      answer(response, 401, { error: 'invalid_token' }, challenge)
      return true
    }
    if (!token.scopes.has(scope)) {
      answer(response, 403, { error: 'insufficient_scope', scope }, `error="insufficient_scope", scope="${scope}"`)
      return true
    }
    const user = token.accountId
    const kept = records.find('Notes', user)
    const notes = kept === undefined ? [`A note of ${user}`] : notesSchema.parse(kept).notes
    if (request.method === 'DELETE') {
      records.put('Notes', user, { notes: [] })
      answer(response, 204)
    } else if (request.method === 'POST') {
      const note = await readNote(request)
      if (note === undefined) answer(response, 400, { error: 'invalid_request', expected: { text: 'a note' } })
      else {
        records.put('Notes', user, { notes: [...notes, note].slice(-MAX_NOTES) })
        answer(response, 201, { user, text: note })
      }
    } else answer(response, 200, { user, notes })
    return true
  }
