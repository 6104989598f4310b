import { createServer, type IncomingHttpHeaders } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo, Server } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { secretBackendSchema } from '../../src/config/secret-backends.ts'
import { createEgress } from '../../src/foundation/outbound/fetch.ts'
import { createVaultWire } from '../../src/credentials/secret/vault/client.ts'
import { aCertificateAuthority } from '../support/certificates.ts'

describe('the wire to Vault', () => {
  const closers: (() => Promise<unknown>)[] = []
  afterEach(async () => {
    for (const close of closers.splice(0)) await close()
  })
  const portOf = async (server: Server): Promise<number> => {
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    closers.push(() => new Promise((resolve) => server.close(resolve)))
    return (server.address() as AddressInfo).port
  }
  const wireTo = (address: string, more: { ca?: string; correlationId?: () => string } = {}) => {
    const { ca, correlationId } = more
    const egress = createEgress({
      allowLoopback: true,
      allowPrivate: [],
      timeout: 2000,
      ...(ca === undefined ? {} : { ca }),
    })
    closers.push(() => egress.close())
    const send = createVaultWire({
      id: 'vault',
      address,
      egress,
      timeout: 2000,
      userAgent: 'deputy/1.2.3',
      correlationId,
    })
    return () => send({ method: 'GET', path: 'sys/health' }, undefined)
  }

  it('fault 56: an unknown authority, another name and a port without TLS are told apart', async () => {
    const authority = await aCertificateAuthority()
    const { certificate: cert, key } = await authority.issue('vault', { host: 'vault.internal' })
    const port = await portOf(createTlsServer({ cert, key }))
    const problem = (words: RegExp) => ({ message: expect.stringMatching(words) as string })
    await expect(wireTo(`https://127.0.0.1:${port}`)()).rejects.toMatchObject(problem(/authority that is not trusted/))
    await expect(wireTo(`https://127.0.0.1:${port}`, { ca: authority.certificate })()).rejects.toMatchObject(
      problem(/for another name \(ERR_TLS_CERT_ALTNAME_INVALID\)/),
    )
    const plain = await portOf(
      createServer((_, response) => response.writeHead(400).end('Client sent an HTTP request to an HTTPS server.')),
    )
    await expect(wireTo(`https://127.0.0.1:${plain}`)()).rejects.toMatchObject(problem(/does not speak TLS/))
    await expect(wireTo(`http://127.0.0.1:${plain}`)()).rejects.toMatchObject(problem(/begin with https:/))
  })

  it('fault 56: a chain with an intermediate is trusted by its root; without the intermediate the server is told to send it', async () => {
    const root = await aCertificateAuthority()
    const intermediate = await root.intermediate()
    const { certificate, key } = await intermediate.issue('vault', { host: '127.0.0.1' })
    const answer = (_: unknown, response: { end(text: string): void }) => response.end('{}')
    const chained = await portOf(createTlsServer({ cert: certificate + '\n' + intermediate.certificate, key }, answer))
    const ask = (port: number, ca: string) => wireTo(`https://127.0.0.1:${port}`, { ca })()
    expect(await ask(chained, root.certificate)).toMatchObject({ status: 200 })
    const bare = await portOf(createTlsServer({ cert: certificate, key }, answer))
    await expect(ask(bare, root.certificate)).rejects.toMatchObject({
      message: expect.stringMatching(/not trusted here, or it sends no intermediate certificate/) as string,
    })
    // A file with both certificates makes up for it, as does the intermediate by itself for the complete chain.
    expect(await ask(bare, `${root.certificate}\n${intermediate.certificate}`)).toMatchObject({ status: 200 })
    const other = await aCertificateAuthority()
    await expect(ask(chained, other.certificate)).rejects.toMatchObject({
      message: expect.stringMatching(/authority that is not trusted here/) as string,
    })
  })

  it('fault 59: says which release asks, and for which request', async () => {
    const seen: IncomingHttpHeaders[] = []
    const port = await portOf(
      createServer((request, response) => {
        seen.push(request.headers)
        response.end('{}')
      }),
    )
    await wireTo(`http://127.0.0.1:${port}`, { correlationId: () => 'request-1' })()
    expect(seen).toMatchObject([{ 'user-agent': 'deputy/1.2.3', 'x-correlation-id': 'request-1' }])
  })
})

it('fault 95: a region of any partition is one', () => {
  const read = (region: string) => secretBackendSchema.safeParse({ kind: 'aws', region }).success
  for (const region of ['eusc-de-east-1', 'us-gov-west-1', 'ap-southeast-7', 'us-iso-east-1', 'cn-north-1'])
    expect(read(region), region).toBe(true)
  for (const region of ['eu central 1', 'x.example-1', 'eu-central', '']) expect(read(region), region).toBe(false)
})
