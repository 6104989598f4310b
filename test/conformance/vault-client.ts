import { spawn } from 'node:child_process'
import { createServer, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest'
import { createVaultWire } from '../../src/credentials/secret/vault/client.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { createEgress } from '../../src/foundation/outbound/fetch.ts'

/** A Vault, with two tokens that are told apart by `auth/token/lookup-self`. */
export interface VaultPlace {
  readonly url: string
  readonly tokens: readonly [string, string]
  readonly accessors: readonly [string, string]
  close(): Promise<void>
}

/** An address on which a program of the test listens. */
const listen = async (
  answer: (
    headers: IncomingHttpHeaders,
    url: string,
  ) => { status: number; headers?: Record<string, string>; text?: string },
): Promise<string> => {
  const server = createServer((request, response) => {
    const { status, headers, text } = answer(request.headers, request.url!)
    response.writeHead(status, headers).end(text)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(
    () =>
      new Promise((resolve) => {
        server.closeAllConnections()
        server.close(() => resolve())
      }),
  )
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

const SCRIPT = `
import { createVaultWire } from './src/credentials/secret/vault/client.ts'
import { Secret } from './src/foundation/crypto/secret.ts'
import { createEgress } from './src/foundation/outbound/fetch.ts'
const { ADDRESS, TOKEN } = process.env
const egress = createEgress({ allowLoopback: true, allowPrivate: [], timeout: 5000 })
const send = createVaultWire({ id: 'vault', address: ADDRESS, egress, timeout: 5000 })
await send({ method: 'POST', path: 'cubbyhole/printed', body: { value: 'canary-of-a-secret' } }, new Secret(TOKEN))
await egress.close()
console.log('written')
`

/** What Deputy promises of its client of Vault (docs/decisions/0013-vaults.md), whatever packages are in it. */
export const describeVaultClient = (name: string, start: () => Promise<VaultPlace>): void => {
  describe(`the client of ${name}`, () => {
    let place: VaultPlace
    beforeAll(async () => {
      place = await start()
    })
    afterAll(async () => {
      await place?.close()
    })
    // What the package would read.
    beforeEach(() => {
      vi.stubEnv('VAULT_ADDR', 'http://127.0.0.1:1')
      vi.stubEnv('VAULT_TOKEN', place.tokens[1])
      vi.stubEnv('VAULT_NAMESPACE', 'of-the-environment')
      vi.stubEnv('VAULT_PREFIX', '/prefix')
      vi.stubEnv('VAULT_SKIP_VERIFY', 'true')
      for (const variable of ['http_proxy', 'HTTP_PROXY', 'https_proxy', 'HTTPS_PROXY', 'ALL_PROXY'])
        vi.stubEnv(variable, 'http://127.0.0.1:1')
      vi.stubEnv('NO_PROXY', undefined)
      vi.stubEnv('no_proxy', undefined)
    })
    afterEach(() => {
      vi.unstubAllEnvs()
    })
    const wireTo = (address: string) => {
      const egress = createEgress({ allowLoopback: true, allowPrivate: [], timeout: 5000 })
      onTestFinished(() => egress.close())
      return createVaultWire({ id: 'vault', address, egress, timeout: 5000, pause: () => Promise.resolve() })
    }
    const self = { method: 'GET', path: 'auth/token/lookup-self' } as const

    it('reads nothing from the environment: neither address nor token, namespace, prefix or proxy', async () => {
      const send = wireTo(place.url)
      expect(await send(self, undefined)).toMatchObject({ status: 403 })
      expect(await send(self, new Secret(place.tokens[0]))).toMatchObject({
        status: 200,
        body: { data: { accessor: place.accessors[0] } },
      })
      const seen: IncomingHttpHeaders[] = []
      const urls: string[] = []
      const address = await listen((headers, url) => {
        seen.push(headers)
        urls.push(url)
        return { status: 200, text: '{}' }
      })
      await wireTo(`${address}/base`)(self, undefined)
      expect(urls).toEqual(['/base/v1/auth/token/lookup-self'])
      expect(Object.keys(seen[0]!).filter((each) => each.startsWith('x-vault'))).toEqual(['x-vault-request'])
    })

    it('sends with each request the token of that request', async () => {
      const send = wireTo(place.url)
      const ask = async (index: 0 | 1) =>
        (await send(self, new Secret(place.tokens[index]))).body as { data: { accessor: string } }
      const answers = await Promise.all([ask(0), ask(1), ask(0), ask(1)])
      expect(answers.map(({ data }) => data.accessor)).toEqual([...place.accessors, ...place.accessors])
      expect(await send(self, undefined)).toMatchObject({ status: 403 })
    })

    it('follows no redirect but that of a standby, which carries no token from TLS to none', async () => {
      const carried: IncomingHttpHeaders[] = []
      const other = await listen((headers) => {
        carried.push(headers)
        return { status: 200, text: '{"data":{}}' }
      })
      for (const status of [301, 302, 303]) {
        const front = await listen((_, url) => ({ status, headers: { location: `${other}${url}` } }))
        await expect(wireTo(front)(self, new Secret(place.tokens[0]))).rejects.toMatchObject({
          code: 'secret_backend_unavailable',
        })
      }
      const elsewhere = await listen(() => ({ status: 307, headers: { location: `${other}/another/path` } }))
      await expect(wireTo(elsewhere)(self, new Secret(place.tokens[0]))).rejects.toMatchObject({
        code: 'secret_backend_unavailable',
      })
      expect(carried).toEqual([])
      const standby = await listen((_, url) => ({ status: 307, headers: { location: `${place.url}${url}` } }))
      expect(await wireTo(standby)(self, new Secret(place.tokens[0]))).toMatchObject({
        status: 200,
        body: { data: { accessor: place.accessors[0] } },
      })
    })

    it('bounds answers, and refuses paths that the package would change', async () => {
      const long = await listen(() => ({ status: 200, text: `{"data":"${'x'.repeat(3_000_000)}"}` }))
      await expect(wireTo(long)(self, undefined)).rejects.toMatchObject({ code: 'secret_backend_unavailable' })
      await expect(
        wireTo(place.url)({ method: 'GET', path: 'secret/data/a&#x2F;b' }, new Secret(place.tokens[0])),
      ).rejects.toMatchObject({ code: 'internal' })
    })

    it('promise 5: prints nothing, whatever DEBUG says', async () => {
      const child = spawn(process.execPath, ['--input-type=module', '-e', SCRIPT], {
        env: { PATH: process.env['PATH'], DEBUG: '*', ADDRESS: place.url, TOKEN: place.tokens[0] },
      })
      let printed = ''
      for (const stream of [child.stdout, child.stderr])
        stream.on('data', (chunk: Buffer) => {
          printed += chunk.toString()
        })
      await new Promise((resolve) => child.on('close', resolve))
      expect(printed).toBe('written\n')
    })
  })
}
