import { createHash, randomBytes } from 'node:crypto'
import { decodeJwt, decodeProtectedHeader } from 'jose'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { signIn, startCompanyIdp, type CompanyIdp } from './company-idp.ts'
import type { NotesService } from '#dev'
import { NOTES_CLIENT, startNotesPeer } from './notes-service.ts'
import { walkAuthorization } from './openid-server.ts'

const RESOURCE = 'https://notes-mcp.company.example/mcp'
const REDIRECT = 'http://127.0.0.1:1/connect/callback'
let idp: CompanyIdp
let service: NotesService
beforeAll(async () => {
  idp = await startCompanyIdp({ resources: [RESOURCE], redirectUris: [REDIRECT] })
  service = await startNotesPeer({ redirectUri: REDIRECT })
})
afterAll(async () => {
  await service?.close()
  await idp?.close()
})

const token = async (parameters: Record<string, string>) => {
  const response = await fetch(`${service.url}/token`, {
    method: 'POST',
    body: new URLSearchParams(parameters),
    headers: {
      authorization: `Basic ${Buffer.from(`${NOTES_CLIENT.client_id}:${NOTES_CLIENT.client_secret}`).toString('base64')}`,
    },
  })
  return {
    status: response.status,
    ...((await response.json()) as { access_token: string; refresh_token: string; scope?: string; error?: string }),
  }
}
const connect = async () => {
  const verifier = randomBytes(32).toString('base64url')
  const url = `${service.url}/auth?${new URLSearchParams({ client_id: 'deputy', redirect_uri: REDIRECT, response_type: 'code', scope: 'openid notes:read notes:write', state: 's', code_challenge: createHash('sha256').update(verifier).digest('base64url'), code_challenge_method: 'S256' }).toString()}`
  const back = await walkAuthorization({ authorizationUrl: url, redirectUri: REDIRECT, user: 'alice-notes' })
  expect(back.searchParams.get('iss')).toBe(service.url)
  return token({
    grant_type: 'authorization_code',
    redirect_uri: REDIRECT,
    code: back.searchParams.get('code') ?? '',
    code_verifier: verifier,
  })
}
const notes = (accessToken: string) =>
  fetch(`${service.api}/notes`, { headers: { authorization: `Bearer ${accessToken}` } })

test('the company signs alice in and issues an access token for the MCP server alone', async () => {
  const { accessToken } = await signIn({ idp, user: 'alice', resource: RESOURCE })
  expect(decodeProtectedHeader(accessToken)).toMatchObject({ typ: 'at+jwt', alg: 'ES256' })
  expect(decodeJwt(accessToken)).toMatchObject({
    iss: idp.issuer,
    aud: RESOURCE,
    sub: 'alice',
    groups: ['engineering'],
  })
})

test("the API takes the service's access token and no other", async () => {
  const granted = await connect()
  expect(await (await notes(granted.access_token)).json()).toMatchObject({ user: 'alice-notes' })
  expect((await notes(granted.refresh_token)).status).toBe(401)
  expect((await notes((await signIn({ idp, user: 'alice', resource: RESOURCE })).accessToken)).status).toBe(401)
})

test('a refresh narrows and rotates, and using the old refresh token ends the family', async () => {
  const granted = await connect()
  const narrowed = await token({
    grant_type: 'refresh_token',
    refresh_token: granted.refresh_token,
    scope: 'notes:write',
  })
  expect(narrowed.scope).toBe('notes:write')
  expect(narrowed.refresh_token).not.toBe(granted.refresh_token)
  expect((await notes(narrowed.access_token)).status).toBe(403)
  expect(await token({ grant_type: 'refresh_token', refresh_token: granted.refresh_token })).toMatchObject({
    status: 400,
    error: 'invalid_grant',
  })
  expect(await token({ grant_type: 'refresh_token', refresh_token: narrowed.refresh_token })).toMatchObject({
    status: 400,
    error: 'invalid_grant',
  })
})
