import { closeSync, openSync, readFileSync, readSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { aCompany } from '../support/configuration.ts'
import { startDaemonHere, startTestIssuer, type RunningDaemon, type TestIssuer } from '../support/daemon.ts'
import { CLI, freePort, runCli } from '../support/process.ts'

const SECRET = 'glpat-the-real-one-of-acme'
const PLACEHOLDER = 'nothing-that-gitlab-would-take'
const SERVER = join(import.meta.dirname, '../../node_modules/@modelcontextprotocol/server-gitlab/dist/index.js')
/** Not the address that programs are told to reach without a proxy. */
const HOST = '127.0.0.2'

interface GitLab {
  readonly url: string
  readonly seen: { path: string; authorization: string | undefined }[]
  close(): Promise<void>
}

/** https://docs.gitlab.com/api/rest/authentication/ and https://docs.gitlab.com/api/projects/#list-all-projects: a wrong token is 401. */
const startGitLab = async (): Promise<GitLab> => {
  const seen: GitLab['seen'] = []
  const server = createServer((request, response) => {
    seen.push({ path: request.url!, authorization: request.headers.authorization })
    const answer = (status: number, body: unknown): void => {
      response
        .writeHead(status, { 'content-type': 'application/json', 'x-total': '1', 'x-total-pages': '1' })
        .end(JSON.stringify(body))
    }
    if (request.headers.authorization !== `Bearer ${SECRET}`) answer(401, { message: '401 Unauthorized' })
    else if (request.url!.startsWith('/api/v4/projects?'))
      answer(200, [
        {
          id: 1,
          name: 'ledger',
          path_with_namespace: 'acme/ledger',
          visibility: 'private',
          description: 'The books',
          web_url: 'https://gitlab.example/acme/ledger',
          ssh_url_to_repo: 'git@gitlab.example:acme/ledger.git',
          http_url_to_repo: 'https://gitlab.example/acme/ledger.git',
          default_branch: 'main',
          created_at: '2026-01-01',
          last_activity_at: '2026-01-02',
          echo: request.headers.authorization,
        },
      ])
    else answer(404, { message: '404 Not Found' })
  })
  await new Promise<void>((resolve) => {
    server.listen(0, HOST, resolve)
  })
  return {
    url: `http://${HOST}:${(server.address() as AddressInfo).port}`,
    seen,
    close: () =>
      new Promise((resolve) => {
        server.close(() => {
          resolve()
        })
        server.closeAllConnections()
      }),
  }
}

/** Whether a text stands anywhere in what a process may write to (proc_pid_mem(5)). */
const isInMemory = (pid: number, text: string): boolean => {
  const needle = Buffer.from(text)
  const mem = openSync(`/proc/${pid}/mem`, 'r')
  try {
    for (const line of readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n')) {
      const [, from, to] = /^([0-9a-f]+)-([0-9a-f]+) rw/.exec(line) ?? []
      if (from === undefined || to === undefined) continue
      for (let at = BigInt(`0x${from}`); at < BigInt(`0x${to}`); at += 4_194_304n) {
        const buffer = Buffer.alloc(Math.min(4_194_304 + needle.length, Number(BigInt(`0x${to}`) - at)))
        try {
          if (buffer.subarray(0, readSync(mem, buffer, 0, buffer.length, at as unknown as number)).includes(needle))
            return true
        } catch {
          /* a page that is not there */
        }
      }
    }
    return false
  } finally {
    closeSync(mem)
  }
}

describe('a published MCP server as it is, under deputy exec and behind the proxy', () => {
  let issuer: TestIssuer
  let daemon: RunningDaemon
  let gitlab: GitLab
  let client: Client
  let transport: StdioClientTransport

  beforeAll(async () => {
    issuer = await startTestIssuer()
    gitlab = await startGitLab()
    const company = aCompany({ issuer: issuer.url })
    daemon = await startDaemonHere(
      {
        ...company,
        'servers/gitlab.yaml': {
          server: 'gitlab',
          resource: 'urn:mcp:gitlab',
          tenants: ['acme'],
          owner: 'platform@example.com',
          status: 'approved',
          attest: [{ exec: { uid: process.getuid!() } }],
          service_downstreams: { gitlab: {} },
          exec: { on_behalf_of: 'server', proxy: true },
        },
        'downstreams/gitlab.yaml': {
          downstream: 'gitlab',
          credential: 'static',
          secret: 'gitlab-token',
          inject: {
            hosts: [gitlab.url],
            methods: ['GET'],
            paths: ['/api/v4'],
            as: { header: 'Authorization', value: 'Bearer {credential}' },
            only: true,
          },
        },
        'policies/access/gitlab.cedar':
          '@id("gitlab")\npermit (principal is Deputy::Workload, action == Deputy::Action::"static", resource == Deputy::Downstream::"gitlab");',
      },
      { listen: { proxy: `127.0.0.1:${await freePort()}` } },
    )
    expect(
      (await runCli(daemon.home, ['secret', 'set', '--tenant', 'acme', '--name', 'gitlab-token'], SECRET)).code,
    ).toBe(0)
    transport = new StdioClientTransport({
      command: process.execPath,
      args: [CLI, 'exec', '--home', daemon.home, '--server', 'gitlab', '--', process.execPath, SERVER],
      env: {
        PATH: process.env['PATH']!,
        GITLAB_API_URL: `${gitlab.url}/api/v4`,
        GITLAB_PERSONAL_ACCESS_TOKEN: PLACEHOLDER,
        XDG_RUNTIME_DIR: '',
      },
      stderr: 'pipe',
    })
    client = new Client({ name: 'test', version: '1.0.0' })
    await client.connect(transport)
  })
  afterAll(async () => {
    await client?.close()
    await daemon?.close()
    await gitlab?.close()
    await issuer?.close()
  })

  const search = async (): Promise<string> =>
    JSON.stringify(
      await client
        .callTool({ name: 'search_repositories', arguments: { search: 'ledger' } })
        .catch((error: unknown) => String(error)),
    )

  it('calls the service with the secret of the tenant, which it does not have', async () => {
    expect(await search()).toContain('acme/ledger')
    expect(gitlab.seen.at(-1)).toEqual({
      path: expect.stringContaining('/api/v4/projects?') as string,
      authorization: `Bearer ${SECRET}`,
    })
  })

  it('promise 5, threat 3: the secret is in neither its memory nor its environment nor its arguments, and the daemon hands it out to nobody', async () => {
    const launched = JSON.parse((await daemon.deputy('audit', 'query', '--event', 'exec.begin', '--json')).out) as {
      record: { detail: { child: number } }
    }[]
    const pid = launched.at(-1)!.record.detail.child
    for (const file of ['environ', 'cmdline'])
      expect(readFileSync(`/proc/${pid}/${file}`, 'utf8')).not.toContain(SECRET)
    expect(isInMemory(pid, PLACEHOLDER)).toBe(true)
    expect(isInMemory(pid, SECRET)).toBe(false)
    expect(
      (await daemon.token({ grant_type: 'client_credentials', audience: 'gitlab', client_id: 'gitlab' })).status,
    ).not.toBe(200)
  })

  it('reaches nothing but what the file lists', async () => {
    const before = gitlab.seen.length
    const created = JSON.stringify(
      await client
        .callTool({ name: 'create_issue', arguments: { project_id: '1', title: 'x' } })
        .catch((error: unknown) => String(error)),
    )
    expect(created).toMatch(/403|Forbidden|injection_refused/)
    expect(gitlab.seen).toHaveLength(before)
  })

  it('promise 4: after a revocation the next call is refused', async () => {
    expect((await daemon.deputy('revoke', '--server', 'gitlab')).code).toBe(0)
    const before = gitlab.seen.length
    expect(await search()).not.toContain('acme/ledger')
    expect(gitlab.seen).toHaveLength(before)
  })
})
