/**
 * A real OpenBao (Vault's API) in memory, on a loopback port, with AppRole and a database engine on a real Postgres.
 * 1. `findOpenBao()` says whether the machine has one; if not, loudly.
 * 2. `startOpenBao()` starts, initialises and unseals it; `ask` is a request as root, or with another token.
 */
import { spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePort, stopProcess } from '../support/process.ts'
import { findProgram } from './programs.ts'
import type { PostgresServer } from './postgres.ts'

export const findOpenBao = (): string | undefined => findProgram('openbao', 'bao')

export interface BaoAnswer {
  readonly status: number
  readonly body: Record<string, unknown>
}

export interface OpenBao {
  readonly url: string
  readonly rootToken: string
  ask(method: string, path: string, body?: object, token?: string): Promise<BaoAnswer>
  /** As `ask`, where anything but success fails the test. */
  must(method: string, path: string, body?: object): Promise<Record<string, unknown>>
  /** A role whose tokens may do what the policy says. @returns what a daemon logs in with */
  approle(role: object, policy: string): Promise<{ readonly roleId: string; readonly secretId: string }>
  /** The database engine at `database`, for roles of this Postgres. */
  database(server: PostgresServer, database: string): Promise<void>
  seal(): Promise<void>
  unseal(): Promise<void>
  close(): Promise<void>
}

export const startOpenBao = async (program: string): Promise<OpenBao> => {
  const folder = await mkdtemp(join(tmpdir(), 'deputy-openbao-'))
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  await writeFile(
    join(folder, 'bao.hcl'),
    `storage "inmem" {}\nlistener "tcp" {\n  address = "127.0.0.1:${port}"\n  tls_disable = true\n}\ndisable_mlock = true\napi_addr = "${url}"\n`,
  )
  const child = spawn(program, ['server', `-config=${join(folder, 'bao.hcl')}`], { stdio: 'ignore' })
  let rootToken = ''
  let key = ''

  const ask = async (method: string, path: string, body?: object, token = rootToken): Promise<BaoAnswer> => {
    const response = await fetch(`${url}/v1/${path}`, {
      method,
      headers: { 'x-vault-token': token, 'x-vault-request': 'true' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    const text = await response.text()
    return { status: response.status, body: text === '' ? {} : (JSON.parse(text) as Record<string, unknown>) }
  }
  const must = async (method: string, path: string, body?: object): Promise<Record<string, unknown>> => {
    const answer = await ask(method, path, body)
    if (answer.status >= 300) throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`)
    return answer.body
  }
  const isActive = async (): Promise<boolean> => (await ask('GET', 'sys/health')).status === 200
  const unseal = async (): Promise<void> => {
    await must('POST', 'sys/unseal', { key })
    for (let attempt = 0; !(await isActive()); attempt += 1) {
      if (attempt === 300) throw new Error('OpenBao does not become active')
      await sleep(50)
    }
  }
  const close = async (): Promise<void> => {
    await stopProcess(child, 'SIGKILL')
    await rm(folder, { recursive: true, force: true })
  }

  try {
    for (let attempt = 0; ; attempt += 1) {
      try {
        await ask('GET', 'sys/seal-status')
        break
      } catch (error) {
        if (attempt === 600) throw error
        await sleep(50)
      }
    }
    const made = (await must('POST', 'sys/init', { secret_shares: 1, secret_threshold: 1 })) as {
      keys: string[]
      root_token: string
    }
    rootToken = made.root_token
    key = made.keys[0]!
    await unseal()
    await must('POST', 'sys/auth/approle', { type: 'approle' })
    await must('POST', 'sys/mounts/database', { type: 'database' })
    await must('POST', 'sys/mounts/secret', { type: 'kv', options: { version: '2' } })
  } catch (error) {
    await close()
    throw error
  }
  return {
    url,
    rootToken,
    ask,
    must,
    unseal,
    close,
    async seal() {
      await must('POST', 'sys/seal')
    },
    async approle(role, policy) {
      await must('PUT', 'sys/policies/acl/deputy', { policy })
      await must('POST', 'auth/approle/role/deputy', { token_policies: 'deputy', ...role })
      const { data: id } = (await must('GET', 'auth/approle/role/deputy/role-id')) as { data: { role_id: string } }
      const { data: secret } = (await must('POST', 'auth/approle/role/deputy/secret-id')) as {
        data: { secret_id: string }
      }
      return { roleId: id.role_id, secretId: secret.secret_id }
    },
    async database(server, database) {
      await must('POST', 'database/config/orders', {
        plugin_name: 'postgresql-database-plugin',
        allowed_roles: '*',
        connection_url: `postgresql://{{username}}:{{password}}@127.0.0.1:${server.port}/${database}?sslmode=disable`,
        username: 'deputy',
        password: server.password,
      })
    },
  }
}

/** What an administrator gives Deputy, as docs/vaults.md prints it. */
export const DEPUTY_POLICY = `
path "database/creds/*" { capabilities = ["read"] }
path "secret/data/deputy/acme/*" { capabilities = ["read"] }
path "sys/leases/renew" { capabilities = ["update"] }
path "sys/leases/revoke" { capabilities = ["update"] }
`
