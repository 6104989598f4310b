import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { parse } from 'yaml'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { exit } from '../../src/cli/terminal.ts'
import { prepareDaemon, type Daemon } from '../support/daemon.ts'

let url: string
let server: Server
let home: Daemon
let metadata: Record<string, unknown>
let path: string
beforeAll(async () => {
  server = createServer((request, response) => {
    if (request.url === path) response.setHeader('content-type', 'application/json').end(JSON.stringify(metadata))
    else response.writeHead(404).end()
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  home = await prepareDaemon({ 'providers/README.md': 'Own files.\n' })
})
afterAll(async () => {
  await home?.close()
  await new Promise((resolve) => {
    server.close(resolve)
  })
})

const publish = (given: Record<string, unknown> = {}, at = '/.well-known/openid-configuration'): void => {
  path = at
  metadata = {
    issuer: url,
    authorization_endpoint: `${url}/authorize`,
    token_endpoint: `${url}/token`,
    revocation_endpoint: `${url}/revoke`,
    response_types_supported: ['code'],
    code_challenge_methods_supported: ['S256'],
    token_endpoint_auth_methods_supported: ['client_secret_post'],
    scopes_supported: ['offline_access', 'read'],
    ...given,
  }
}

describe('deputy provider', () => {
  it('add writes what an issuer publishes, for its user alone, and comments for what it does not say', async () => {
    publish()
    const { code, out } = await home.deputy('provider', 'add', 'login', '--from-issuer', url, '--name', 'Log: "in"')
    expect([code, out]).toEqual([exit.ok, expect.stringContaining('providers/login.yaml')])
    const text = await readFile(join(home.home, 'providers/login.yaml'), 'utf8')
    expect(parse(text)).toEqual({
      provider: 'login',
      name: 'Log: "in"',
      issuer: url,
      discovery: true,
      client_authentication: 'client_secret_post',
      offline_scope: 'offline_access',
      refresh: { rotates: true },
      revocation: 'rfc7009',
      sources: { endpoints: url },
    })
    expect(text).toMatch(/# Whether every refresh ends/)
    expect((await stat(join(home.home, 'providers/login.yaml'))).mode & 0o777).toBe(0o600)
    expect((await home.deputy('provider', 'check', 'login', '--online')).out).toContain('login: as its metadata says')
    expect((await home.deputy('provider', 'add', 'login', '--from-issuer', url)).err).toContain('exists already')
  })

  it('add reads the document of RFC 8414 where there is no other, and believes no other issuer', async () => {
    publish(
      { revocation_endpoint: undefined, code_challenge_methods_supported: undefined, scopes_supported: undefined },
      '/.well-known/oauth-authorization-server',
    )
    expect((await home.deputy('provider', 'add', 'plain', '--from-issuer', url)).code).toBe(exit.ok)
    const text = await readFile(join(home.home, 'providers/plain.yaml'), 'utf8')
    expect([parse(text)['revocation'], text.includes('without which no user can connect')]).toEqual(['none', true])
    publish({ issuer: 'https://evil.example' })
    const { code, err } = await home.deputy('provider', 'add', 'evil', '--from-issuer', url)
    expect([code, err]).toEqual([exit.failed, expect.stringContaining('metadata could not be read')])
  })

  it('add asks nobody whom the daemon would not ask, and takes no id that is a path', async () => {
    for (const issuer of ['http://169.254.169.254/', 'https://10.0.0.1/', 'file:///etc/passwd', 'http://idp.example'])
      expect([issuer, (await home.deputy('provider', 'add', 'x', '--from-issuer', issuer)).code]).toEqual([
        issuer,
        exit.failed,
      ])
    expect((await home.deputy('provider', 'add', '../x', '--from-issuer', url)).code).toBe(exit.usage)
  })

  it('check compares a file with what its provider publishes, and says what differs', async () => {
    publish()
    await home.write({
      'providers/old.yaml': {
        provider: 'old',
        name: 'Old',
        issuer: url,
        authorization_endpoint: `${url}/authorize`,
        token_endpoint: `${url}/oauth/token`,
      },
    })
    const { code, out } = await home.deputy('provider', 'check', 'old', '--online')
    expect(code).toBe(exit.unverified)
    for (const words of [`token_endpoint is ${url}/token`, 'client_secret_post', 'names a revocation_endpoint'])
      expect(out).toContain(words)
    const json = JSON.parse((await home.deputy('provider', 'check', 'old', 'okta', '--online', '--json')).out) as {
      compared: object[]
    }
    expect(json.compared).toMatchObject([
      { provider: 'okta', compared: false, why: 'say --variable host=…' },
      { provider: 'old', compared: true },
    ])
  })

  it('check finds the shipped files in order, and a mistake with its line; list and show tell of them', async () => {
    expect((await home.deputy('provider', 'check')).out).toMatch(/In order: 5\d provider files\./)
    expect((await home.deputy('provider', 'show', 'github')).out).toContain('delete_json')
    expect(JSON.parse((await home.deputy('provider', 'list', '--json')).out)).toContainEqual(
      expect.objectContaining({ provider: 'slack', scope_parameter: 'user_scope' }),
    )
    await home.write({ 'providers/bad.yaml': 'provider: bad\nname: Bad\ntoken_endpoint: https://{nowhere}/token\n' })
    const { code, out } = await home.deputy('provider', 'check')
    expect([code, out]).toEqual([exit.configuration, expect.stringMatching(/bad\.yaml:3.*\{nowhere\}/)])
  })
})
