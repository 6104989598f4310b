import { createServer, type IncomingHttpHeaders, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createServer as createTlsServer } from 'node:https'
import { gzipSync } from 'node:zlib'
import * as fc from 'fast-check'
import { createRemoteJWKSet, customFetch, jwtVerify } from 'jose'
import * as openid from 'openid-client'
import { afterEach, describe, expect, it } from 'vitest'
import type { Egress } from '../../src/foundation/outbound/egress.ts'
import { createEgress, type EgressOptions } from '../../src/foundation/outbound/fetch.ts'
import { startIssuerDouble } from '../doubles/issuer.ts'
import { aCertificateAuthority } from '../support/certificates.ts'

const closers: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closers.splice(0)) await close()
})

const anEgress = (options: Partial<EgressOptions> = {}): Egress => {
  const egress = createEgress({ allowLoopback: true, allowPrivate: [], timeout: 2000, ...options })
  closers.push(() => egress.close())
  return egress
}
const closing = (server: Server): Promise<void> =>
  new Promise((resolve) => {
    server.close(() => {
      resolve()
    })
    server.closeAllConnections()
  })
const serve = async (listener: RequestListener): Promise<{ url: string; port: number }> => {
  const server = createServer(listener)
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  closers.push(() => closing(server))
  const { port } = server.address() as AddressInfo
  return { url: `http://127.0.0.1:${port}`, port }
}
const refusal = async (work: Promise<unknown>): Promise<{ code?: string; message: string }> => {
  try {
    await work
  } catch (error) {
    return error as { code?: string; message: string }
  }
  throw new Error('it was not refused')
}
const resolvingTo =
  (...addresses: string[]) =>
  () =>
    Promise.resolve(addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 })))

describe('egress', () => {
  it.each([
    'http://example.com/',
    'ftp://example.com/',
    'file:///etc/passwd',
    'data:text/plain,x',
    'http://127.evil.example/',
    'http://localhost.evil.example/',
  ])('threat 6: refuses %s, which is not https', async (url) => {
    expect(await refusal(anEgress({ lookup: resolvingTo('93.184.216.34') })(url))).toMatchObject({
      code: 'egress_refused',
    })
  })

  it('threat 6: speaks plain http to loopback only where development is switched on', async () => {
    const { url } = await serve((_request, response) => {
      response.end('hello')
    })
    expect(await (await anEgress()(url)).text()).toBe('hello')
    expect(await refusal(anEgress({ allowLoopback: false })(url))).toMatchObject({ code: 'egress_refused' })
  })

  it.each(['https://user@example.com/', 'https://user:pass@example.com/', 'https://:pass@example.com/'])(
    'threat 6: refuses %s and does not repeat what it carries',
    async (url) => {
      const error = await refusal(anEgress()(url))
      expect(error).toMatchObject({ code: 'egress_refused' })
      expect(JSON.stringify(error)).not.toMatch(/user@|pass@/)
    },
  )

  it.each([
    'https://0177.0.0.1/',
    'https://0x7f.1/',
    'https://2130706433/',
    'https://0x7f000001/',
    'https://127.1/',
    'https://[::ffff:127.0.0.1]/',
    'https://[::ffff:7f00:1]/',
    'https://[::]/',
    'https://0xa9fea9fe/',
    'https://2852039166/',
    'https://0251.0376.0251.0376/',
    'https://[::ffff:169.254.169.254]/',
    'https://[fd00:ec2::254]/',
    'https://１６９.254.169.254/',
    'https://100.100.100.200/',
  ])('threat 6: refuses the address form %s', async (url) => {
    expect(await refusal(anEgress({ allowLoopback: false, allowPrivate: ['0.0.0.0/0', '::/0'] })(url))).toMatchObject({
      code: 'egress_refused',
    })
  })

  it('threat 6: every spelling of an IPv4 address that the URL parser knows is judged as that address', async () => {
    const egress = anEgress({ allowLoopback: false })
    await fc.assert(
      fc.asyncProperty(
        fc.tuple(fc.constantFrom([10, 0], [127, 0], [169, 254], [192, 168]), fc.nat(255), fc.nat(255)),
        fc.constantFrom('dotted', 'number', 'hex', 'octal'),
        async ([[a, b], c, d], form) => {
          const number = ((a! * 256 + b!) * 256 + c) * 256 + d
          const host = {
            dotted: [a, b, c, d].join('.'),
            number: String(number),
            hex: `0x${number.toString(16)}`,
            octal: `0${number.toString(8)}`,
          }[form]
          expect(await refusal(egress(`https://${host}/`))).toMatchObject({ code: 'egress_refused' })
        },
      ),
      { numRuns: 60 },
    )
  })

  it.each([
    ['10.0.0.1'],
    ['127.0.0.1'],
    ['169.254.169.254'],
    ['::ffff:10.0.0.1'],
    ['fe80::1'],
    ['93.184.216.34', '10.0.0.1'],
  ])('threat 6: refuses a public name that resolves to %s', async (...addresses) => {
    expect(
      await refusal(anEgress({ allowLoopback: false, lookup: resolvingTo(...addresses) })('https://idp.example/')),
    ).toMatchObject({ code: 'egress_refused' })
  })

  it('threat 6: a name that resolves differently between check and connection changes nothing: there is one resolution', async () => {
    const { port } = await serve((_request, response) => {
      response.end('the one that was checked')
    })
    const answers = ['127.0.0.1', '10.0.0.1']
    let asked = 0
    const egress = anEgress({ lookup: () => Promise.resolve([{ address: answers[Math.min(asked++, 1)]!, family: 4 }]) })
    expect(await (await egress(`http://localhost:${port}/`, { headers: { connection: 'close' } })).text()).toBe(
      'the one that was checked',
    )
    expect(asked).toBe(1)
    expect(await refusal(egress(`http://localhost:${port}/`))).toMatchObject({ code: 'egress_refused' })
  })

  it('threat 6: checks each hop of a redirect again', async () => {
    for (const location of [
      'https://169.254.169.254/latest/meta-data/',
      'http://example.com/',
      'https://10.0.0.1/',
      'https://user:pass@example.com/',
      'file:///etc/passwd',
    ]) {
      const { url } = await serve((_request, response) => {
        response.writeHead(302, { location }).end()
      })
      expect(await refusal(anEgress()(url, { redirects: 3 }))).toMatchObject({ code: 'egress_refused' })
    }
  })

  it('follows no redirect unless asked, and never more than asked', async () => {
    let requests = 0
    const { url } = await serve((_request, response) => {
      requests += 1
      response.writeHead(302, { location: '/again' }).end()
    })
    expect((await anEgress()(url)).status).toBe(302)
    expect(requests).toBe(1)
    expect((await anEgress()(url, { redirects: 3 })).status).toBe(302)
    expect(requests).toBe(5)
  })

  it('threat 27: a redirect to another origin carries no header that says who asks, one to the same origin does', async () => {
    const seen: IncomingHttpHeaders[] = []
    const other = await serve((request, response) => {
      seen.push(request.headers)
      response.end('{}')
    })
    const headers = {
      authorization: 'Bearer canary',
      cookie: 'a=canary',
      'proxy-authorization': 'canary',
      'x-api-key': 'canary',
      'x-vault-token': 'canary',
      accept: 'application/json',
    }
    const first = await serve((request, response) => {
      if (request.url === '/here') {
        seen.push(request.headers)
        response.end('{}')
        return
      }
      response.writeHead(307, { location: request.url === '/away' ? `${other.url}/landed` : '/here' }).end()
    })
    await anEgress()(`${first.url}/away`, { headers, redirects: 1 })
    expect(seen[0]).toMatchObject({ accept: 'application/json' })
    expect(JSON.stringify(seen[0])).not.toContain('canary')
    await anEgress()(`${first.url}/stay`, { headers, redirects: 1 })
    expect(seen[1]).toMatchObject(headers)
  })

  it('threat 18: a body is not sent on to another origin', async () => {
    let landed = 0
    const other = await serve((_request, response) => {
      landed += 1
      response.end()
    })
    const { url } = await serve((_request, response) => {
      response.writeHead(308, { location: other.url }).end()
    })
    expect(await refusal(anEgress()(url, { method: 'POST', body: 'token=canary', redirects: 1 }))).toMatchObject({
      code: 'egress_refused',
    })
    expect(landed).toBe(0)
  })

  it('a body longer than allowed is cut off, also when it was compressed', async () => {
    const { url } = await serve((request, response) => {
      if (request.url === '/bomb')
        response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync(Buffer.alloc(8_000_000)))
      else response.end(Buffer.alloc(5000))
    })
    expect(await refusal(anEgress()(url, { maxBytes: 4999 }))).toMatchObject({ code: 'egress_refused' })
    expect((await (await anEgress()(url, { maxBytes: 5000 })).arrayBuffer()).byteLength).toBe(5000)
    expect(await refusal(anEgress()(`${url}/bomb`))).toMatchObject({ code: 'egress_refused' })
  })

  it('gives up in time, whether the headers or the rest of the body do not come', async () => {
    const { url } = await serve((request, response) => {
      if (request.url === '/half') {
        response.writeHead(200)
        response.write('x')
      }
    })
    for (const path of ['/none', '/half']) {
      const before = performance.now()
      const error = await refusal(anEgress({ timeout: 150 })(`${url}${path}`))
      expect(error.code).not.toBe('egress_refused')
      expect(performance.now() - before).toBeLessThan(1500)
    }
  })

  it('a network failure is an ordinary error for the caller to name', async () => {
    const { url } = await serve(() => undefined)
    await closers.pop()!()
    expect((await refusal(anEgress()(url))).code).not.toBe('egress_refused')
  })

  it.each([204, 205, 304])('hands on an answer %s without a body', async (status) => {
    const { url } = await serve((_request, response) => {
      response.writeHead(status).end()
    })
    const answer = await anEgress()(url)
    expect([answer.status, await answer.text()]).toEqual([status, ''])
  })

  it('serves jose and openid-client as their fetch', async () => {
    const issuer = await startIssuerDouble(Date.now)
    closers.push(() => issuer.close())
    const egress = anEgress()
    const keys = createRemoteJWKSet(new URL(`${issuer.url}/jwks`), {
      [customFetch]: (url, init) => egress(url, init as RequestInit),
    })
    expect((await jwtVerify(await issuer.sign({}), keys)).payload.sub).toBe('alice')
    const client = await openid.discovery(new URL(issuer.url), 'deputy', undefined, undefined, {
      algorithm: 'oauth2',
      execute: [openid.allowInsecureRequests],
      [openid.customFetch]: (url, init) => egress(url, init as RequestInit),
    })
    expect(client.serverMetadata().issuer).toBe(issuer.url)
  })
})

describe('fault 74: a host with a private certificate authority, or at another address', () => {
  it('is reached so, and its authority vouches for no other host', async () => {
    const authority = await aCertificateAuthority()
    const certificate = await authority.issue('idp', { host: 'login.corp.example' })
    const seen: string[] = []
    const secure = createTlsServer({ cert: certificate.certificate, key: certificate.key }, (request, response) => {
      seen.push(`${request.headers.host} ${request.url}`)
      response.end('{}')
    })
    await new Promise<void>((resolve) => {
      secure.listen(0, '127.0.0.1', resolve)
    })
    closers.push(() => closing(secure as unknown as Server))
    const { port } = secure.address() as AddressInfo
    const host = `login.corp.example:${port}`
    const lookup = resolvingTo('127.0.0.1')
    expect((await refusal(anEgress({ lookup })(`https://${host}/realms/x`))).message).toContain('fetch failed')
    const own = anEgress({ lookup, routes: [{ host, ca: authority.certificate }] })
    expect((await own(`https://${host}/realms/x`)).status).toBe(200)
    // Another name with a certificate of that authority is not believed.
    expect(await refusal(own(`https://127.0.0.1:${port}/`))).toBeInstanceOf(Error)
    const other = anEgress({ lookup, routes: [{ host: `another.example:${port}`, ca: authority.certificate }] })
    expect(await refusal(other(`https://${host}/`))).toBeInstanceOf(Error)
    // From here it has another address; the path stays.
    const moved = anEgress({
      lookup,
      routes: [{ host: 'login.public.example', at: `https://${host}`, ca: authority.certificate }],
    })
    expect((await moved('https://login.public.example/realms/x?a=b')).status).toBe(200)
    expect(seen).toEqual([`${host} /realms/x`, `${host} /realms/x?a=b`])
    // The guard judges where the request goes.
    const inside = anEgress({ routes: [{ host: 'login.public.example', at: 'https://10.0.0.1' }] })
    expect((await refusal(inside('https://login.public.example/'))).code).toBe('egress_refused')
  })
})
