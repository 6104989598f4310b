/** What the token endpoint is measured beside: two servers of `node:http` that do less, and oidc-provider. Each is a process of its own. */
import type { ChildProcess } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { Provider } from 'oidc-provider'
import { startProcess, stopProcess } from '../test/support/process.ts'

export interface Floor {
  readonly origin: string
  readonly socketPath?: string
  readonly process: ChildProcess
  stop(): Promise<void>
}

/** Parses the same form and answers the same bytes. */
const BARE = `const before = (answer) => answer()`

/** As much as the audit record of an exchange needs at least: JSON, a link by SHA-256, and one durable write of an append-only file for all records that wait. */
const DURABLE = `
import { hash } from 'node:crypto'
import { fdatasync, openSync, write } from 'node:fs'
const file = openSync(log, 'ax', 0o600)
let [seq, prev, waiting, busy] = [0, hash('sha256', 'genesis'), [], false]
const commit = () => {
  busy = true
  const batch = waiting.splice(0)
  let text = ''
  for (const { at } of batch) {
    const body = JSON.stringify({ seq: ++seq, prev, id: 'k'.repeat(20), at, detail })
    prev = hash('sha256', body)
    text += body + ' ' + prev + '\\n'
  }
  const bytes = Buffer.from(text)
  write(file, bytes, 0, bytes.length, null, (problem, written) => {
    if (problem !== null || written !== bytes.length) throw problem ?? new Error('short write')
    fdatasync(file, (problem) => {
      if (problem !== null) throw problem
      for (const { answer } of batch) answer()
      if (waiting.length > 0) commit()
      else busy = false
    })
  })
}
const before = (answer) => {
  waiting.push({ at: Date.now(), answer })
  if (!busy) { busy = true; setImmediate(commit) }
}`

const SERVER = `createServer((request, response) => {
  const chunks = []
  request.on('data', (chunk) => chunks.push(chunk))
  request.on('end', () => {
    new URLSearchParams(Buffer.concat(chunks).toString('utf8')).get('subject_token')
    before(() => {
      response.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': answer.length, 'Cache-Control': 'no-store' }).end(answer)
    })
  })
}).listen(socketPath, () => console.log('listening'))`

/**
 * A server that parses the same form and answers the same bytes.
 * @param durable what the record of each answer says, which is durable and linked before the answer leaves; absent: no record
 */
export const startFloor = async (folder: string, answer: string, durable?: object): Promise<Floor> => {
  const name = durable === undefined ? 'bare' : 'durable'
  const socketPath = join(folder, `${name}.sock`)
  const file = join(folder, `${name}.mjs`)
  await writeFile(
    file,
    `import { createServer } from 'node:http'
const answer = Buffer.from(${JSON.stringify(answer)}), socketPath = ${JSON.stringify(socketPath)}
const log = ${JSON.stringify(join(folder, `${name}.log`))}, detail = ${JSON.stringify(durable ?? null)}
${durable === undefined ? BARE : DURABLE}
${SERVER}`,
  )
  const child = await startProcess([file], /listening/)
  return { origin: 'http://localhost', socketPath, process: child, stop: () => stopProcess(child) }
}

const PORT = 39_917

/** oidc-provider's client-credentials endpoint with JWT access tokens. */
export const startOidc = async (main: string): Promise<Floor> => {
  const child = await startProcess([main, '--oidc'], /listening \d+/)
  return { origin: `http://127.0.0.1:${PORT}`, process: child, stop: () => stopProcess(child) }
}

export const OIDC_FORM = new URLSearchParams({
  grant_type: 'client_credentials',
  client_id: 'bench',
  client_secret: 'bench-secret',
  scope: 'ledger:read',
  resource: 'https://ledger.example/api',
}).toString()

/** What `--oidc` runs. */
export const serveOidc = (): void => {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const resource = 'https://ledger.example/api'
  const provider = new Provider(`http://127.0.0.1:${PORT}`, {
    jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), kid: 'bench', alg: 'ES256', use: 'sig' }] },
    clients: [
      {
        client_id: 'bench',
        client_secret: 'bench-secret',
        grant_types: ['client_credentials'],
        redirect_uris: [],
        response_types: [],
        token_endpoint_auth_method: 'client_secret_post',
        scope: 'ledger:read',
        id_token_signed_response_alg: 'ES256',
      },
    ],
    scopes: ['ledger:read'],
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => resource,
        getResourceServerInfo: () => ({
          scope: 'ledger:read',
          audience: resource,
          accessTokenFormat: 'jwt',
          jwt: { sign: { alg: 'ES256' } },
        }),
      },
    },
  })
  const answer = provider.callback()
  createServer((request, response) => {
    void answer(request, response)
  }).listen(PORT, '127.0.0.1', () => {
    process.stdout.write(`listening ${PORT}\n`)
  })
}
