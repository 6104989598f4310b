/**
 * A real Keycloak on a loopback port, with its data in a folder of its own.
 * 1. `findKeycloak()` says whether the machine has one; if not, loudly.
 * 2. `startKeycloak()` starts it (10 s or more of both cores, so once for all tests); with DEPUTY_KEYCLOAK (a URL whose admin
 *    is admin/admin) it takes one that runs already, and cannot restart it.
 * 3. `realm()` makes a realm out of a representation; `passwordToken()` and `passSignIn()` sign users in.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePort, stopProcess } from '../support/process.ts'
import { findProgram } from './programs.ts'
import type { Browser, Page } from './walk.ts'

const FEATURES = 'dpop,jwt-authorization-grant'
const ADMIN = 'admin'
export const KEYCLOAK_PASSWORD = 'correct horse'

/** The script that starts it, or `running` where DEPUTY_KEYCLOAK names one that runs. */
export const findKeycloak = (): string | undefined =>
  process.env['DEPUTY_KEYCLOAK'] === undefined ? findProgram('keycloak', 'bin/kc.sh') : 'running'

export interface Realm {
  readonly name: string
  readonly issuer: string
  /** A request of the admin API below the realm; what is no success fails the test. @returns the JSON, or the id of what was made */
  admin(method: string, path: string, body?: object): Promise<unknown>
  /** The internal id of a client. */
  clientId(client: string): Promise<string>
  remove(): Promise<void>
}

/** Parts of an export of a realm, beside what every realm has. */
export interface RealmParts {
  /** Of the realm itself, before anything is made in it. */
  readonly settings?: object
  readonly clientScopes?: readonly object[]
  readonly clients?: readonly object[]
  readonly roles?: object
  readonly groups?: readonly object[]
  readonly users?: readonly object[]
}

export interface Keycloak {
  readonly url: string
  realm(parts: RealmParts): Promise<Realm>
  /** Stops it in an orderly way, and starts it again with the data that it has. */
  restart(): Promise<void>
  close(): Promise<void>
}

const isUp = async (url: string): Promise<boolean> => {
  try {
    const response = await fetch(`${url}/realms/master`)
    await response.body?.cancel()
    return response.ok
  } catch {
    return false
  }
}

const createAdmin = (url: string) => {
  let token = { text: '', until: 0 }
  const accessToken = async (): Promise<string> => {
    if (token.until > Date.now()) return token.text
    const response = await fetch(`${url}/realms/master/protocol/openid-connect/token`, {
      method: 'POST',
      body: new URLSearchParams({ grant_type: 'password', client_id: 'admin-cli', username: ADMIN, password: ADMIN }),
    })
    const { access_token: text } = (await response.json()) as { access_token: string }
    token = { text, until: Date.now() + 30_000 }
    return text
  }
  return async (method: string, path: string, body?: object): Promise<unknown> => {
    const response = await fetch(`${url}/admin/realms${path}`, {
      method,
      headers: { authorization: `Bearer ${await accessToken()}`, 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    const text = await response.text()
    if (!response.ok) throw new Error(`${method} ${path} answered ${response.status} ${text.slice(0, 400)}`)
    const location = response.headers.get('location')
    return text === '' ? location?.slice(location.lastIndexOf('/') + 1) : (JSON.parse(text) as unknown)
  }
}

const createRealm = (url: string) => {
  const admin = createAdmin(url)
  return async ({ settings = {}, clientScopes = [], ...parts }: RealmParts): Promise<Realm> => {
    const name = `deputy-${randomBytes(4).toString('hex')}`
    await admin('POST', '', { realm: name, enabled: true, sslRequired: 'none', ...settings })
    const ofRealm = (method: string, path: string, body?: object): Promise<unknown> =>
      admin(method, `/${name}${path}`, body)
    // A realm that is imported with client scopes gets none of the usual ones.
    for (const scope of clientScopes) await ofRealm('POST', '/client-scopes', scope)
    await ofRealm('POST', '/partialImport', { ifResourceExists: 'FAIL', ...parts })
    return {
      name,
      issuer: `${url}/realms/${name}`,
      admin: ofRealm,
      async clientId(client) {
        const [found] = (await ofRealm('GET', `/clients?clientId=${encodeURIComponent(client)}`)) as { id: string }[]
        if (found === undefined) throw new Error(`the realm has no client ${client}`)
        return found.id
      },
      async remove() {
        await ofRealm('DELETE', '')
      },
    }
  }
}

/** Kills the script that starts Keycloak and the Java process that it leaves in the background, which are a process group. */
const killAll = async (script: ChildProcess): Promise<void> => {
  if (script.pid === undefined || script.exitCode !== null || script.signalCode !== null) return
  const gone = once(script, 'exit')
  process.kill(-script.pid, 'SIGKILL')
  await gone
}

export const startKeycloak = async (program: string): Promise<Keycloak> => {
  const running = process.env['DEPUTY_KEYCLOAK']
  if (program === 'running' && running !== undefined) {
    const never = (): Promise<void> => Promise.reject(new Error('this Keycloak was not started by the test'))
    return { url: running, realm: createRealm(running), restart: never, close: () => Promise.resolve() }
  }
  const folder = await mkdtemp(join(tmpdir(), 'deputy-keycloak-'))
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  let child: ChildProcess | undefined
  const start = async (): Promise<void> => {
    let output = ''
    const started = spawn(
      program,
      [
        'start-dev',
        `--features=${FEATURES}`,
        '--http-host=127.0.0.1',
        `--http-port=${port}`,
        `--db-url=jdbc:h2:file:${join(folder, 'db')};NON_KEYWORDS=VALUE`,
      ],
      {
        stdio: ['ignore', 'pipe', 'pipe'],
        detached: true,
        env: { ...process.env, KC_BOOTSTRAP_ADMIN_USERNAME: ADMIN, KC_BOOTSTRAP_ADMIN_PASSWORD: ADMIN },
      },
    )
    child = started
    for (const stream of [started.stdout, started.stderr])
      stream.on('data', (chunk: Buffer) => {
        output = `${output}${chunk.toString('utf8')}`.slice(-4000)
      })
    for (const until = Date.now() + 300_000; !(await isUp(url)); await sleep(100))
      if (started.exitCode !== null || Date.now() > until) {
        await killAll(started)
        throw new Error(`Keycloak did not start:\n${output}`)
      }
  }
  const stop = async (): Promise<void> => {
    if (child !== undefined) await killAll(child)
  }
  const close = async (): Promise<void> => {
    await stop()
    await rm(folder, { recursive: true, force: true })
  }
  try {
    await start()
  } catch (error) {
    await close()
    throw error
  }
  return {
    url,
    realm: createRealm(url),
    async restart() {
      if (child !== undefined) await stopProcess(child)
      await start()
    },
    close,
  }
}

/** A user's tokens by name and password (a client with direct access grants), or for a client itself without a user. */
export const passwordToken = async (options: {
  readonly issuer: string
  readonly client: string
  readonly secret?: string
  readonly user: string
  readonly scope?: string
}): Promise<{ readonly access_token: string; readonly id_token?: string; readonly refresh_token?: string }> => {
  const response = await fetch(`${options.issuer}/protocol/openid-connect/token`, {
    method: 'POST',
    body: new URLSearchParams({
      grant_type: 'password',
      client_id: options.client,
      ...(options.secret === undefined ? {} : { client_secret: options.secret }),
      username: options.user,
      password: KEYCLOAK_PASSWORD,
      ...(options.scope === undefined ? {} : { scope: options.scope }),
    }),
  })
  const answer = (await response.json()) as Awaited<ReturnType<typeof passwordToken>>
  if (!response.ok) throw new Error(`no token: ${response.status} ${JSON.stringify(answer)}`)
  return answer
}

/** Signs the user in on Keycloak's page, and goes on to where it leads. */
export const passSignIn = (browser: Browser, page: Page, user: string): Promise<Page> =>
  browser.submit(page, { username: user, password: KEYCLOAK_PASSWORD })

/** A user as an export of a realm has it. */
export const aKeycloakUser = (username: string, more: object = {}): object => ({
  username,
  enabled: true,
  email: `${username}@company.example`,
  emailVerified: true,
  firstName: username,
  lastName: 'Company',
  credentials: [{ type: 'password', value: KEYCLOAK_PASSWORD, temporary: false }],
  ...more,
})
