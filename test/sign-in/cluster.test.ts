import { createServer, request, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { decodeJwt } from 'jose'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startCompanyIdp, type CompanyIdp } from '../peers/company-idp.ts'
import { canCluster, startClusterHere } from '../support/cluster.ts'
import { ACCESS_TOKEN, TOKEN_EXCHANGE } from '../support/daemon.ts'
import {
  refreshTokens,
  registerClient,
  RESOURCE,
  signInAtClient,
  signInFiles,
  type SignInPlace,
} from '../support/sign-in.ts'

/** A load balancer without sticky sessions: each request goes to the next node. */
const startBalancer = async (ports: () => readonly number[]): Promise<{ server: Server; url: string }> => {
  let turn = 0
  const server = createServer((incoming, outgoing) => {
    const all = ports()
    const port = all[(turn += 1) % all.length]!
    const { method, url: path, headers } = incoming
    const onward = request({ host: '127.0.0.1', port, path, method, headers, agent: false }, (answer) => {
      outgoing.writeHead(answer.statusCode!, answer.headers)
      answer.pipe(outgoing)
    })
    onward.on('error', () => outgoing.destroy())
    incoming.pipe(onward)
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  return { server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }
}

describe.skipIf(!canCluster())('sign-in over three nodes behind a balancer', () => {
  let cluster: Awaited<ReturnType<typeof startClusterHere>>
  let idp: CompanyIdp
  let balancer: Server
  let place: SignInPlace
  let client: string
  beforeAll(async () => {
    const started = await startBalancer(() => cluster.nodes.map(({ daemon }) => daemon.port))
    balancer = started.server
    place = { url: started.url }
    idp = await startCompanyIdp({ resources: [], redirectUris: [`${place.url}/connect/signed-in`] })
    cluster = await startClusterHere({
      files: signInFiles(idp),
      settings: { issuer: place.url, connect_url: place.url, cluster: { lease: '5s', skew: '1s' } },
    })
    client = await registerClient(place)
  })
  afterAll(async () => {
    await cluster?.close()
    await idp?.close()
    balancer?.close()
  })

  const exchangeAtAll = (token: string) =>
    Promise.all(
      cluster.nodes.map(({ daemon }) =>
        daemon.token({
          grant_type: TOKEN_EXCHANGE,
          client_id: 'notes',
          subject_token: token,
          subject_token_type: ACCESS_TOKEN,
          audience: 'api',
        }),
      ),
    )

  it('promise 4: each step at another node, and a revocation at one ends it at all', async () => {
    const tokens = await signInAtClient(place, client)
    expect(tokens).toMatchObject({ status: 200 })
    expect(decodeJwt(tokens.access_token!).aud).toBe(RESOURCE)
    expect((await exchangeAtAll(tokens.access_token!)).map(({ status }) => status)).toEqual([200, 200, 200])
    const next = await refreshTokens(place, client, tokens.refresh_token!)
    expect(next).toMatchObject({ status: 200 })
    const revoked = await cluster.nodes[1]!.daemon.deputy('revoke', '--tenant', 'acme', '--user', 'alice')
    expect(revoked.code).toBe(0)
    expect((await exchangeAtAll(next.access_token!)).map(({ status }) => status)).toEqual([400, 400, 400])
    expect(await refreshTokens(place, client, next.refresh_token!)).toMatchObject({ error: 'invalid_grant' })
  })

  it('threat 20: one refresh token from many processes of a client at once gives all of them the same next one', async () => {
    // Another user: for as long as clocks of nodes may differ, a sign-in counts as one of before a revocation.
    const tokens = await signInAtClient(place, client, { user: 'bob' })
    const answers = await Promise.all(
      Array.from({ length: 12 }, () => refreshTokens(place, client, tokens.refresh_token!)),
    )
    expect(answers.map(({ status }) => status)).toEqual(Array.from({ length: 12 }, () => 200))
    expect(new Set(answers.map(({ refresh_token: next }) => next)).size).toBe(1)
    expect(await refreshTokens(place, client, answers[0]!.refresh_token!)).toMatchObject({ status: 200 })
  })
})
