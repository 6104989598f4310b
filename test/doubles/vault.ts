/**
 * A Vault as its documentation describes it, with KV v2, AppRole, Kubernetes and JWT logins, tokens, response wrapping,
 * transit, the database and the PKI engine, and those of clouds (vault-clouds.ts). What it is asked wrongly it refuses. Each behaviour names its page below
 * https://developer.hashicorp.com/vault.
 */
import { createCipheriv, createDecipheriv, createHash, randomBytes, randomUUID, X509Certificate } from 'node:crypto'
import { AsyncLocalStorage } from 'node:async_hooks'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { aCertificateAuthority, type TestAuthority } from '../support/certificates.ts'
import { fail, ok, type Answer, type Question } from './vault-answer.ts'
import { createCloudEngines, type CloudEngines } from './vault-clouds.ts'

interface Token {
  readonly id: string
  /** Its public name; the token of a lease is found by it. */
  readonly accessor: string
  until: number
  readonly ttl: number
  readonly maxUntil: number
  readonly renewable: boolean
}
interface Version {
  data: Record<string, unknown> | null
  deleted: boolean
  destroyed: boolean
}
interface Lease {
  readonly id: string
  readonly role: string
  readonly renewable: boolean
  until: number
  readonly maxUntil: number
  /** The token that asked for it, and that it ends with. */
  readonly parent: string
  readonly end: () => Promise<void> | void
}

const done: Answer = { status: 204 }

export interface VaultDouble {
  readonly url: string
  /** Answers of the next requests, whatever they are. `drop`: acts, then closes without an answer. `pass`: as without. */
  readonly spoil: (Answer | 'drop' | 'hang' | 'pass')[]
  /** api-docs/system/seal: everything but the seal status answers 503. */
  sealed: boolean
  /** docs/concepts/ha#client-redirection: it is a standby, and redirects to this URL; empty while no leader is elected (500). */
  leader: string | undefined
  /** What the driver of the database says when a user is to be made: 500 with its words. */
  brokenDriver: string | undefined
  /** What the driver says when a user is to be dropped: 400, and the lease stays. */
  stuckUsers: string | undefined
  /** What a token may: default everything. A request that it may not is 403. */
  allows: (method: string, path: string) => boolean
  /** Seconds of the tokens that logins give. */
  tokenTtl: number
  tokenMaxTtl: number
  /** Seconds of dynamic credentials. */
  leaseTtl: number
  leaseMaxTtl: number
  readonly asked: { readonly method: string; readonly path: string; readonly namespace: string | undefined }[]
  /** A root-like token that does not end. */
  /** Of the mount `secret`; version 1 knows none of the paths of version 2. */
  kvVersion: 1 | 2
  /** transit: what an older version of a key has encrypted is not opened. */
  minDecryptionVersion: number
  readonly rootToken: string
  issueToken(ttl: number): string
  revokeTokens(): void
  /** Tokens that are alive, by accessor. */
  accessors(): string[]
  readonly approle: { readonly roleId: string; readonly secretId: string }
  /** The JWT that the Kubernetes and JWT methods accept. */
  readonly jwt: string
  /** A wrapping token with a secret id in it; `at` is the path that it was made at. */
  wrapSecretId(at?: string): string
  /** Sets an entry as a person with the CLI would. */
  put(path: string, data: Record<string, unknown>): void
  /** Writes some fields of an entry, and leaves the others. */
  patch(path: string, data: Readonly<Record<string, unknown>>): void
  /** How many versions an entry keeps; the older ones are gone, and their numbers with them (api-docs/secret/kv/kv-v2#max_versions). */
  maxVersions: number
  /** Whether each write has to say which version it has read (`cas_required`). */
  casRequired: boolean
  remove(path: string): void
  entry(path: string): readonly Version[] | undefined
  /** Its key-value entries as they are now. @returns what brings them back */
  snapshot(): () => void
  readonly leases: ReadonlyMap<string, Lease>
  /** What the PKI engine was asked for, by serial number, and what of it is revoked. */
  readonly certificates: ReadonlyMap<string, { readonly wish: Readonly<Record<string, unknown>>; revoked: boolean }>
  /** That of the PKI engine. */
  readonly authority: TestAuthority
  readonly clouds: CloudEngines
  removeStaticRole(name: string): void
  /** Who can log in at the database at this moment. */
  readonly databaseUsers: ReadonlyMap<string, string>
  /** Called when the database engine makes, renews or ends a user. */
  onUser: (username: string, password: string | undefined) => Promise<void> | void
  forward(milliseconds: number): void
  rotateTransit(key: string): void
  close(): Promise<void>
}

export const startVaultDouble = async (): Promise<VaultDouble> => {
  let offset = 0
  const now = (): number => Date.now() + offset
  const tokens = new Map<string, Token>()
  const wrapped = new Map<string, { path: string; data: object }>()
  const kv = new Map<string, Version[]>()
  const leases = new Map<string, Lease>()
  const users = new Map<string, string>()
  const certificates = new Map<string, { readonly wish: Readonly<Record<string, unknown>>; revoked: boolean }>()
  const authority = await aCertificateAuthority()
  const transit = new Map<string, Buffer[]>()
  const staticRoles = new Map<string, { username: string; password: string; rotatedAt: number }>()

  /** The token of the request that is being answered: a lease is its child. */
  const asking = new AsyncLocalStorage<string>()

  const newToken = (ttl: number, maxTtl = ttl): Token => {
    const token: Token = {
      id: `hvs.${randomBytes(12).toString('hex')}`,
      accessor: randomBytes(12).toString('hex'),
      ttl,
      until: ttl === 0 ? Infinity : now() + ttl * 1000,
      maxUntil: ttl === 0 ? Infinity : now() + maxTtl * 1000,
      renewable: ttl > 0,
    }
    tokens.set(token.id, token)
    return token
  }
  const login = (): Answer => {
    const { id, accessor, ttl } = newToken(double.tokenTtl, double.tokenMaxTtl)
    return {
      status: 200,
      body: {
        request_id: randomUUID(),
        auth: {
          client_token: id,
          accessor,
          policies: ['deputy'],
          lease_duration: ttl,
          renewable: true,
          token_type: 'service',
        },
      },
    }
  }

  /** api-docs/auth/approle#login-with-approle, auth/kubernetes#login, auth/jwt#jwt-login */
  const authenticate = ({ path, body }: Question): Answer => {
    if (path === 'auth/approle/login')
      return body['role_id'] === approle.roleId && body['secret_id'] === approle.secretId
        ? login()
        : fail(400, 'invalid role or secret ID')
    return body['role'] === 'deputy' && body['jwt'] === double.jwt
      ? login()
      : fail(400, 'error validating token: invalid signature')
  }

  /** api-docs/secret/kv/kv-v2 */
  const keyValue = ({ method, path, query, body }: Question): Answer => {
    const [, verb, entryPath] = /^secret\/(data|metadata|destroy)\/(.+)$/.exec(path) ?? []
    if (verb === undefined || entryPath === undefined) return fail(404)
    const versions = kv.get(entryPath)
    if (verb === 'data' && method === 'GET') {
      const number = Number(query.get('version') ?? 0) || (versions?.length ?? 0)
      const version = versions?.[number - 1]
      if (version === undefined || number <= versions!.length - double.maxVersions) return fail(404)
      const metadata = {
        created_time: new Date(now()).toISOString(),
        custom_metadata: null,
        deletion_time: version.deleted ? new Date(now()).toISOString() : '',
        destroyed: version.destroyed,
        version: number,
      }
      // A version that is deleted: 404, and what is known of it all the same.
      return version.deleted || version.destroyed
        ? { status: 404, body: { data: { data: null, metadata } } }
        : ok({ data: version.data, metadata })
    }
    if (verb === 'data' && method === 'POST') {
      const { data, options = {} } = body as { data?: Record<string, unknown>; options?: { cas?: number } }
      if (typeof data !== 'object') return fail(400, 'no data provided')
      // The mount demands it: api-docs/secret/kv/kv-v2#configure-the-kv-engine
      if (options.cas === undefined && double.casRequired)
        return fail(400, 'check-and-set parameter required for this call')
      if (options.cas !== undefined && options.cas !== (versions?.length ?? 0))
        return fail(400, 'check-and-set parameter did not match the current version')
      double.put(entryPath, data)
      return ok({
        version: kv.get(entryPath)!.length,
        created_time: new Date(now()).toISOString(),
        deletion_time: '',
        destroyed: false,
      })
    }
    if (verb === 'metadata' && method === 'DELETE') {
      kv.delete(entryPath)
      return done
    }
    if (verb === 'destroy' && (method === 'POST' || method === 'PUT')) {
      for (const number of body['versions'] as number[]) {
        const version = versions?.[number - 1]
        if (version !== undefined) {
          version.destroyed = true
          version.data = null
        }
      }
      return done
    }
    return fail(405)
  }

  /** docs/concepts/response-wrapping */
  const wrapping = ({ path, body, token }: Question): Answer => {
    const given = path === 'sys/wrapping/lookup' ? String(body['token']) : token
    const found = wrapped.get(given ?? '')
    if (found === undefined) return fail(400, 'wrapping token is not valid or does not exist')
    if (path === 'sys/wrapping/lookup')
      return ok({ creation_path: found.path, creation_time: new Date(now()).toISOString(), creation_ttl: 60 })
    wrapped.delete(given!)
    return ok(found.data)
  }

  /** api-docs/secret/transit */
  const encryption = ({ path, body }: Question): Answer => {
    const [, verb, detail, name] =
      /^transit\/(encrypt|decrypt|rewrap|datakey)\/(?:(plaintext|wrapped)\/)?([\w-]+)$/.exec(path) ?? []
    const keys = transit.get(name ?? '')
    if (verb === undefined || keys === undefined || (verb === 'datakey') !== (detail !== undefined))
      return fail(400, 'encryption key not found')
    const aad = Buffer.from(String(body['associated_data'] ?? ''), 'base64')
    const seal = (plaintext: Buffer): string => {
      const nonce = randomBytes(12)
      const cipher = createCipheriv('aes-256-gcm', keys.at(-1)!, nonce).setAAD(aad)
      return `vault:v${keys.length}:${Buffer.concat([nonce, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]).toString('base64')}`
    }
    const unseal = (text: unknown): Buffer | undefined => {
      const [, version, payload] = /^vault:v(\d+):(.+)$/.exec(String(text)) ?? []
      const key = keys[Number(version) - 1]
      if (key === undefined || payload === undefined) return undefined
      const bytes = Buffer.from(payload, 'base64')
      try {
        const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(0, 12))
          .setAAD(aad)
          .setAuthTag(bytes.subarray(-16))
        return Buffer.concat([decipher.update(bytes.subarray(12, -16)), decipher.final()])
      } catch {
        return undefined
      }
    }
    if (verb === 'datakey') {
      const key = randomBytes(32)
      return ok({ ciphertext: seal(key), ...(detail === 'plaintext' ? { plaintext: key.toString('base64') } : {}) })
    }
    if (verb === 'encrypt') {
      const plaintext = String(body['plaintext'])
      if (Buffer.from(plaintext, 'base64').toString('base64') !== plaintext)
        return fail(400, 'failed to base64-decode plaintext')
      return ok({ ciphertext: seal(Buffer.from(plaintext, 'base64')), key_version: keys.length })
    }
    const plaintext = unseal(body['ciphertext'])
    // What OpenBao 2.7 says of each.
    const version = Number(/^vault:v(\d+):/.exec(String(body['ciphertext']))?.[1] ?? NaN)
    if (Number.isNaN(version)) return fail(400, 'invalid ciphertext: no prefix')
    if (version < double.minDecryptionVersion)
      return fail(400, 'ciphertext or signature version is disallowed by policy (too old)')
    if (plaintext === undefined) return fail(400, 'cipher: message authentication failed')
    return verb === 'decrypt'
      ? ok({ plaintext: plaintext.toString('base64') })
      : ok({ ciphertext: seal(plaintext), key_version: keys.length })
  }

  /** docs/concepts/lease: what stands in an answer beside its data. @param given seconds; default those of the double */
  const leased = (
    path: string,
    role: string,
    {
      ttl = double.leaseTtl,
      renewable = true,
      end,
    }: { ttl?: number; renewable?: boolean; end: () => Promise<void> | void },
  ): object => {
    const lease: Lease = {
      id: `${path}/${randomBytes(12).toString('hex')}`,
      role,
      renewable,
      until: now() + ttl * 1000,
      maxUntil: now() + Math.max(ttl, double.leaseMaxTtl) * 1000,
      parent: asking.getStore()!,
      end,
    }
    leases.set(lease.id, lease)
    return { lease_id: lease.id, lease_duration: ttl, renewable }
  }
  const clouds = createCloudEngines({ now, leased })

  /** api-docs/secret/databases */
  const database = async ({ method, path }: Question): Promise<Answer> => {
    const [, verb, role] = /^database\/(creds|static-creds|rotate-role)\/([\w-]+)$/.exec(path) ?? []
    if (verb === 'creds' && method === 'GET' && role === 'reader') {
      if (double.brokenDriver !== undefined) return fail(500, `1 error occurred:\n\t* ${double.brokenDriver}\n\n`)
      const [username, password] = [`v-deputy-${randomBytes(6).toString('hex')}`, randomBytes(15).toString('base64url')]
      users.set(username, password)
      await double.onUser(username, password)
      return ok(
        { username, password },
        leased(path, role, {
          end: async () => {
            users.delete(username)
            await double.onUser(username, undefined)
          },
        }),
      )
    }
    const known = staticRoles.get(role ?? '')
    if (known === undefined) return fail(400, `unknown role: ${role} does not exist`)
    if (verb === 'rotate-role' && method === 'POST') {
      known.password = randomBytes(15).toString('base64url')
      known.rotatedAt = now()
      users.set(known.username, known.password)
      await double.onUser(known.username, known.password)
      return done
    }
    if (verb === 'static-creds' && method === 'GET')
      return ok({
        username: known.username,
        password: known.password,
        last_vault_rotation: new Date(known.rotatedAt).toISOString(),
        rotation_period: 86_400,
        ttl: 86_400,
      })
    return fail(405)
  }

  /** api-docs/secret/pki: the role `client` has max_ttl 2h, and names below clients.example; a name that it does not allow is 400. */
  const certifying = async ({ method, path, body }: Question): Promise<Answer> => {
    if (method !== 'POST') return fail(405)
    if (path === 'pki/revoke') {
      const found = certificates.get(String(body['serial_number']))
      if (found === undefined) return fail(400, `certificate with serial ${String(body['serial_number'])} not found`)
      found.revoked = true
      return ok({ revocation_time: Math.floor(now() / 1000) })
    }
    if (path !== 'pki/issue/client') return fail(400, `unknown role: ${path.replace(/^.*\//, '')}`)
    const name = String(body['common_name'])
    if (!name.endsWith('.clients.example')) return fail(400, `common name ${name} not allowed by this role`)
    if (body['uri_sans'] !== undefined && !String(body['uri_sans']).startsWith('spiffe://example.com/'))
      return fail(400, `URI Subject Alternative Names were requested via the API, but they are not valid for this role`)
    const seconds = /^(\d+)s$/.exec(String(body['ttl']))?.[1]
    if (seconds === undefined) return fail(400, 'invalid requested ttl')
    const { certificate, key } = await authority.issue(name, { client: true })
    const serial = new X509Certificate(certificate).serialNumber
      .toLowerCase()
      .padStart(2, '0')
      .replace(/(..)(?=.)/g, '$1:')
    certificates.set(serial, { wish: body, revoked: false })
    const ca = authority.certificate
    return ok({
      certificate,
      issuing_ca: ca,
      ca_chain: [ca],
      private_key: key,
      private_key_type: 'ec',
      serial_number: serial,
      expiration: Math.floor(now() / 1000) + Math.min(7200, Number(seconds)),
    })
  }

  /** api-docs/system/leases */
  const leasing = async ({ path, body }: Question): Promise<Answer> => {
    const lease = leases.get(String(body['lease_id']))
    if (path === 'sys/leases/renew') {
      if (lease === undefined || lease.until <= now()) return fail(400, 'lease not found')
      if (!lease.renewable) return fail(400, 'lease is not renewable')
      // Counts from now, and is advisory: never beyond the maximum.
      lease.until = Math.min(lease.maxUntil, now() + Number(body['increment'] || double.leaseTtl) * 1000)
      return {
        status: 200,
        body: { lease_id: lease.id, renewable: true, lease_duration: Math.floor((lease.until - now()) / 1000) },
      }
    }
    if (path === 'sys/leases/revoke') {
      if (body['sync'] !== true) return fail(400, 'this double wants sync')
      // What is not there is revoked.
      if (lease === undefined) return done
      // api-docs/system/leases#revoke-lease: with `sync` the caller hears why it failed, and the lease stays.
      if (double.stuckUsers !== undefined)
        return fail(400, `failed to revoke entry: resp: (*logical.Response)(nil) err: ${double.stuckUsers}`)
      leases.delete(lease.id)
      await lease.end()
      return done
    }
    return fail(404)
  }

  /** api-docs/auth/token */
  const ownToken = ({ path }: Question, token: Token): Answer | Promise<Answer> => {
    const left = (): number => (token.until === Infinity ? 0 : Math.floor((token.until - now()) / 1000))
    if (path === 'auth/token/lookup-self')
      return ok({ ttl: left(), renewable: token.renewable, id: token.id, accessor: token.accessor, type: 'service' })
    if (path === 'auth/token/revoke-self') {
      tokens.delete(token.id)
      return sweep().then(() => done)
    }
    if (path === 'auth/token/renew-self') {
      if (!token.renewable) return fail(400, 'lease is not renewable')
      // Seen at a real one: no 400, and words in Go's frame.
      if (token.maxUntil <= now() + 1000) return fail(500, '1 error occurred:\n\t* past the max TTL, cannot renew\n\n')
      token.until = Math.min(token.maxUntil, now() + token.ttl * 1000)
      return { status: 200, body: { auth: { client_token: token.id, lease_duration: left(), renewable: true } } }
    }
    return fail(404)
  }

  /** docs/concepts/lease#lease-revocation: what a token asked for ends with it, and each lease at its end. */
  const sweep = async (): Promise<void> => {
    for (const token of tokens.values()) if (token.until <= now()) tokens.delete(token.id)
    for (const lease of leases.values()) {
      if (tokens.has(lease.parent) && lease.until > now()) continue
      leases.delete(lease.id)
      await lease.end()
    }
  }

  const answer = async (question: Question): Promise<Answer> => {
    const { method, path } = question
    await sweep()
    if (double.leader !== undefined)
      return double.leader === ''
        ? fail(500, 'local node not active but active cluster node not found')
        : { status: 307, headers: { location: `${double.leader}/v1/${path}` } }
    if (double.sealed) return fail(503, 'Vault is sealed')
    if (/^auth\/(approle|kubernetes|jwt)\/login$/.test(path))
      return method === 'POST' ? authenticate(question) : fail(405)
    if (path.startsWith('sys/wrapping/')) return method === 'POST' ? wrapping(question) : fail(405)
    const token = tokens.get(question.token ?? '')
    if (token === undefined || token.until <= now()) return fail(403, 'permission denied', 'invalid token')
    return asking.run(token.id, () => allowed(question, token))
  }
  const allowed = (question: Question, token: Token): Answer | Promise<Answer> => {
    const { method, path } = question
    if (!double.allows(method, path)) return fail(403, '1 error occurred:\n\t* permission denied\n\n')
    if (path.startsWith('auth/token/')) return ownToken(question, token)
    // api-docs/system/internal-ui-mounts
    if (path.startsWith('sys/internal/ui/mounts/'))
      return path === 'sys/internal/ui/mounts/secret'
        ? ok({ type: 'kv', options: { version: String(double.kvVersion) } })
        : fail(403, 'preflight capability check returned 403')
    if (path.startsWith('secret/') && double.kvVersion === 1) return { status: 404, body: { errors: [] } }
    if (path.startsWith('secret/')) return keyValue(question)
    if (path.startsWith('transit/')) return method === 'POST' ? encryption(question) : fail(405)
    if (path.startsWith('database/')) return database(question)
    if (path.startsWith('pki/')) return certifying(question)
    if (/^(aws|gcp|azure)\//.test(path)) return clouds.answer(question)
    if (path.startsWith('sys/leases/')) return method === 'POST' || method === 'PUT' ? leasing(question) : fail(405)
    return fail(404, `no handler for route "${path}"`)
  }

  const read = async (request: IncomingMessage): Promise<Question> => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const text = Buffer.concat(chunks).toString('utf8')
    const url = new URL(request.url ?? '/', 'http://vault')
    const header = (name: string): string | undefined => request.headers[name] as string | undefined
    return {
      method: request.method ?? '',
      path: decodeURIComponent(url.pathname.replace(/^\/v1\//, '')),
      query: url.searchParams,
      body: text === '' ? {} : (JSON.parse(text) as Record<string, unknown>),
      token: header('x-vault-token'),
      namespace: header('x-vault-namespace'),
    }
  }

  const server = createServer((request, response) => {
    void (async () => {
      const question = await read(request)
      double.asked.push({ method: question.method, path: question.path, namespace: question.namespace })
      const spoilt = double.spoil.shift()
      if (spoilt === 'hang') return
      // docs/agent-and-proxy/proxy#require_request_header
      const given =
        request.headers['x-vault-request'] !== 'true'
          ? fail(412, "missing 'X-Vault-Request' header")
          : spoilt === undefined || spoilt === 'drop' || spoilt === 'pass'
            ? await answer(question)
            : spoilt
      if (spoilt === 'drop') {
        response.destroy()
        return
      }
      response
        .writeHead(given.status, { 'content-type': 'application/json', ...given.headers })
        .end(given.html ?? (given.body === undefined ? undefined : JSON.stringify(given.body)))
    })()
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  const approle = { roleId: randomUUID(), secretId: randomUUID() }
  const double: VaultDouble = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    spoil: [],
    sealed: false,
    leader: undefined,
    brokenDriver: undefined,
    stuckUsers: undefined,
    allows: () => true,
    kvVersion: 2,
    minDecryptionVersion: 1,
    tokenTtl: 3600,
    tokenMaxTtl: 36_000,
    maxVersions: 10,
    casRequired: false,
    leaseTtl: 3600,
    leaseMaxTtl: 7200,
    asked: [],
    rootToken: newToken(0).id,
    approle,
    jwt: `jwt.${createHash('sha256').update(randomBytes(8)).digest('hex')}`,
    leases,
    certificates,
    authority,
    clouds,
    databaseUsers: users,
    onUser: () => undefined,
    issueToken: (ttl) => newToken(ttl).id,
    revokeTokens() {
      tokens.clear()
    },
    accessors: () => [...tokens.values()].map(({ accessor }) => accessor),
    wrapSecretId(at = 'auth/approle/role/deputy/secret-id') {
      const id = `hvs.wrap.${randomBytes(12).toString('hex')}`
      wrapped.set(id, { path: at, data: { secret_id: approle.secretId, secret_id_accessor: randomUUID() } })
      return id
    },
    put(path, data) {
      kv.set(path, [...(kv.get(path) ?? []), { data, deleted: false, destroyed: false }])
    },
    patch(path, data) {
      double.put(path, { ...kv.get(path)?.at(-1)?.data, ...data })
    },
    remove(path) {
      const last = kv.get(path)?.at(-1)
      if (last !== undefined) last.deleted = true
    },
    entry: (path) => kv.get(path),
    snapshot() {
      const saved = structuredClone([...kv])
      return () => {
        kv.clear()
        for (const [path, versions] of structuredClone(saved)) kv.set(path, versions)
      }
    },
    removeStaticRole(name) {
      staticRoles.delete(name)
    },
    forward(milliseconds) {
      offset += milliseconds
      void sweep()
    },
    rotateTransit(key) {
      transit.set(key, [...(transit.get(key) ?? []), randomBytes(32)])
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => {
          resolve()
        })
        server.closeAllConnections()
      }),
  }
  double.rotateTransit('deputy')
  staticRoles.set('app', { username: 'app', password: 'the-first', rotatedAt: now() })
  users.set('app', 'the-first')
  return double
}
