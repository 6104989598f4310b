/** A database at a real Postgres whose logins Deputy rotates between two roles, or has a Vault make: what files, secrets and doubles need for that. */
import { Client } from 'pg'
import { expect } from 'vitest'
import type { VaultDouble } from '../doubles/vault.ts'
import type { PostgresServer } from '../peers/postgres.ts'
import { runCli } from './process.ts'

export interface Login {
  readonly username: string
  readonly password: string
}

/** Runs statements as the one who may do everything. @returns the rows of the last */
export const asAdmin = async (
  { port, password }: PostgresServer,
  database: string,
  ...statements: readonly string[]
): Promise<Record<string, unknown>[]> => {
  const client = new Client({ host: '127.0.0.1', port, user: 'deputy', password, database })
  await client.connect()
  let rows: Record<string, unknown>[] = []
  try {
    for (const statement of statements) ({ rows } = await client.query<Record<string, unknown>>(statement))
    return rows
  } finally {
    await client.end()
  }
}

const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`

/** Whether a server lets a login in. */
export const logsIn = async (
  { port }: Pick<PostgresServer, 'port'>,
  database: string,
  { username: user, password }: Login,
): Promise<boolean> => {
  const client = new Client({ host: '127.0.0.1', port, user, password, database })
  client.on('error', () => undefined)
  try {
    await client.connect()
    return true
  } catch {
    return false
  } finally {
    await client.end().catch(() => undefined)
  }
}

/** What Vault's database plugin does at its target: https://developer.hashicorp.com/vault/docs/secrets/databases/postgresql */
export const letVaultMakeLogins = (vault: VaultDouble, server: PostgresServer, database: string): void => {
  vault.onUser = async (username, password) => {
    await asAdmin(
      server,
      database,
      ...(password === undefined
        ? [`drop role if exists ${quoted(username)}`]
        : [
            `do $$ begin create role ${quoted(username)} login; exception when duplicate_object then null; end $$`,
            `alter role ${quoted(username)} password '${password.replaceAll("'", "''")}'`,
          ]),
    )
  }
}

/** Settings of that Vault; its token stands in `state/token`. */
export const vaultSettings = ({ url }: VaultDouble) => ({
  backends: { vault: { kind: 'vault', address: url, login: { token: { file: 'state/token' } }, timeout: '2s' } },
})

/** Two roles, the first of which can log in. */
export const makeRoles = async (server: PostgresServer, database: string): Promise<void> => {
  await asAdmin(
    server,
    database,
    'drop role if exists app_a',
    'drop role if exists app_b',
    "create role app_a login password 'the-first'",
    'create role app_b login',
  )
}

/** A policy that rotates between them. */
export const rotationOf = ({ port }: PostgresServer, database: string): object => ({
  rotation: 'orders',
  owner: 'data@example.com',
  secrets: { tenants: ['acme'], name: 'orders-login' },
  when: { every: '30d' },
  grace: '60s',
  how: {
    rotator: 'postgres',
    host: '127.0.0.1',
    port,
    database,
    tls: false,
    strategy: 'alternating',
    roles: ['app_a', 'app_b'],
    admin: { secret: 'postgres-admin' },
  },
})

/** Keeps the login that rotates and the one who may change it, for the tenant `acme`. */
export const keepLogins = async (home: string, { password }: PostgresServer): Promise<void> => {
  for (const [name, login] of Object.entries({
    'orders-login': { username: 'app_a', password: 'the-first' },
    'postgres-admin': { username: 'deputy', password },
  } satisfies Record<string, Login>)) {
    expect(
      (await runCli(home, ['secret', 'set', '--tenant', 'acme', '--name', name], JSON.stringify(login))).code,
    ).toBe(0)
  }
}
