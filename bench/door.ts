/**
 * `npm run bench:door`: the authorization server for MCP clients beside oidc-provider alone with its memory adapter, in one run: refreshes and
 * code exchanges, in turn and several times. Then refreshes with 10,000 registered clients and 100,000 client sessions in the
 * store, beside the same daemon without them.
 */
import { generateKeyPairSync } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { Provider } from 'oidc-provider'
import { Pool } from 'undici'
import { prepareDaemon } from '../test/support/daemon.ts'
import { startProcess, stopProcess } from '../test/support/process.ts'
import {
  authorize,
  REDIRECT_URI,
  registerClient,
  RESOURCE,
  startSignInAt,
  type Authorization,
  type SignInPlace,
} from '../test/support/sign-in.ts'
import { rss, SECONDS } from './load.ts'

/** Sign-ins that refresh at the same time, and codes that are redeemed. */
const [CHAINS, CODES] = [32, 96]
const ROUNDS = 3
const MANY = { clients: 10_000, sessions: 100_000 } as const
const PORT = 39_918

/** oidc-provider alone: who comes is signed in and allowed. */
const serveAlone = async (): Promise<void> => {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const provider = new Provider(`http://127.0.0.1:${PORT}`, {
    jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), kid: 'bench', alg: 'ES256', use: 'sig' }] },
    cookies: { keys: ['bench'] },
    scopes: ['offline_access'],
    responseTypes: ['code'],
    clientDefaults: {
      grant_types: ['authorization_code', 'refresh_token'],
      token_endpoint_auth_method: 'none',
      id_token_signed_response_alg: 'ES256',
    },
    enabledJWA: { idTokenSigningAlgValues: ['ES256'] },
    pkce: { required: () => true },
    rotateRefreshToken: () => true,
    issueRefreshToken: () => true,
    expiresWithSession: () => false,
    findAccount: (_context, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    interactions: { url: (_context, interaction) => `/interaction/${interaction.uid}` },
    routes: { authorization: '/oauth2/authorize', token: '/oauth2/token', registration: '/oauth2/register' },
    features: {
      devInteractions: { enabled: false },
      registration: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => RESOURCE,
        useGrantedResource: () => true,
        getResourceServerInfo: () => ({
          scope: 'notes:read',
          audience: RESOURCE,
          accessTokenFormat: 'jwt',
          jwt: { sign: { alg: 'ES256' } },
        }),
      },
    },
  })
  const callback = provider.callback()
  const allow = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const { params } = await provider.interactionDetails(request, response)
    const grant = new provider.Grant({ accountId: 'alice', clientId: String(params['client_id']) })
    grant.addResourceScope(RESOURCE, 'notes:read')
    const result = { login: { accountId: 'alice' }, consent: { grantId: await grant.save() } }
    await provider.interactionFinished(request, response, result, { mergeWithLastSubmission: false })
  }
  createServer((request, response) => {
    if (request.url?.startsWith('/interaction/') === true) void allow(request, response)
    else void callback(request, response)
  }).listen(PORT, '127.0.0.1', () => {
    process.stdout.write('listening\n')
  })
}

type Chain = { refresh: string }

const post = async (pool: Pool, form: Record<string, string>): Promise<Record<string, unknown>> => {
  const { statusCode, body } = await pool.request({
    path: '/oauth2/token',
    method: 'POST',
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    body: new URLSearchParams(form).toString(),
  })
  const answer = (await body.json()) as Record<string, unknown>
  if (statusCode !== 200) throw new Error(`${statusCode} ${JSON.stringify(answer)} ${JSON.stringify(form)}`)
  return answer
}

/** Refreshes of all chains for a while. @returns refreshes a second */
async function refreshes({ url }: SignInPlace, client: string, chains: Chain[]): Promise<number> {
  const pool = new Pool(url, { connections: CHAINS, pipelining: 1 })
  const began = performance.now()
  const until = began + SECONDS * 1000
  let count = 0
  await Promise.all(
    chains.map(async (chain) => {
      while (performance.now() < until) {
        const form = {
          grant_type: 'refresh_token',
          client_id: client,
          refresh_token: chain.refresh,
          resource: RESOURCE,
        }
        chain.refresh = String((await post(pool, form))['refresh_token'])
        count += 1
      }
    }),
  )
  const rate = count / ((performance.now() - began) / 1000)
  await pool.close()
  return rate
}

/** Codes are made before the clock runs. @returns exchanges a second, and chains that begin with them */
async function codeExchanges(place: SignInPlace, client: string): Promise<{ rate: number; chains: Chain[] }> {
  const codes: Authorization[] = []
  for (let at = 0; at < CODES; at += 1)
    codes.push(await authorize(place, client, { parameters: { scope: 'notes:read' } }))
  const pool = new Pool(place.url, { connections: CHAINS, pipelining: 1 })
  const chains: Chain[] = []
  const began = performance.now()
  await Promise.all(
    Array.from({ length: CHAINS }, async () => {
      for (let next = codes.pop(); next !== undefined; next = codes.pop()) {
        const { back, verifier } = next
        const answer = await post(pool, {
          grant_type: 'authorization_code',
          client_id: client,
          code: back.searchParams.get('code')!,
          redirect_uri: REDIRECT_URI,
          code_verifier: verifier,
          resource: RESOURCE,
        })
        chains.push({ refresh: String(answer['refresh_token']) })
      }
    }),
  )
  const rate = CODES / ((performance.now() - began) / 1000)
  await pool.close()
  return { rate, chains }
}

/** Fills the store of a daemon that is stopped with rows that no request of the bench names. */
function seed(home: string): void {
  const database = new DatabaseSync(join(home, 'state/deputy.db'))
  const sealed = new Uint8Array(600)
  const [now, later] = [Date.now(), Date.now() + 86_400_000]
  const record = database.prepare(
    'insert into authorization_records (kind, id, tenant, session, position, sealed, expires_at) values (?, ?, ?, ?, 0, ?, ?)',
  )
  const session = database.prepare(
    'insert into client_sessions (id, tenant, "user", client, server, sealed, created_at, used_at, expires_at) values (?, ?, ?, ?, ?, ?, ?, ?, ?)',
  )
  const client = database.prepare(
    'insert into clients (id, sealed, created_at, used_at, expires_at) values (?, ?, ?, ?, ?)',
  )
  database.exec('begin')
  for (let at = 0; at < MANY.clients; at += 1) client.run(`dcr_${at}`, sealed, now, now, later)
  for (let at = 0; at < MANY.sessions; at += 1) {
    const id = `acme.session-${at}`
    session.run(id, 'acme', `user-${at % 20_000}`, `dcr_${at % MANY.clients}`, 'notes', sealed, now, now, later)
    record.run('RefreshToken', `token-${at}`, 'acme', id, sealed, later)
  }
  database.exec('commit')
  database.close()
}

async function measure(): Promise<void> {
  const middle = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!
  const child = await startProcess([import.meta.filename, '--alone'], /listening/)
  // A process of its own, as the other side has.
  const world = await startSignInAt(await prepareDaemon({}))
  const alone: SignInPlace = { url: `http://127.0.0.1:${PORT}` }
  try {
    const clients = { deputy: await registerClient(world), alone: await registerClient(alone) }
    const rounds = []
    let chains: Chain[] = []
    for (let round = 0; round < ROUNDS; round += 1) {
      const ofAlone = await codeExchanges(alone, clients.alone)
      const ofDeputy = await codeExchanges(world, clients.deputy)
      chains = ofDeputy.chains.slice(0, CHAINS)
      const refreshed = {
        alone: await refreshes(alone, clients.alone, ofAlone.chains.slice(0, CHAINS)),
        deputy: await refreshes(world, clients.deputy, chains),
      }
      rounds.push({ codes: { alone: ofAlone.rate, deputy: ofDeputy.rate }, refreshed })
    }
    const few = await refreshes(world, clients.deputy, chains)
    await world.daemon.stop()
    seed(world.daemon.home)
    await world.daemon.start()
    await refreshes(world, clients.deputy, chains)
    const many = await refreshes(world, clients.deputy, chains)
    const memory = await rss(world.daemon.home)
    const results = {
      rounds,
      refresh: middle(rounds.map(({ refreshed }) => refreshed.deputy / refreshed.alone)),
      code: middle(rounds.map(({ codes }) => codes.deputy / codes.alone)),
      scale: many / few,
      rss: memory,
    }
    process.stdout.write(
      [
        ...rounds.map(
          ({ codes, refreshed }) =>
            `refreshes/s: Deputy ${Math.round(refreshed.deputy)}, oidc-provider ${Math.round(refreshed.alone)}; codes/s: ${Math.round(codes.deputy)}, ${Math.round(codes.alone)}`,
        ),
        `refresh, Deputy / oidc-provider        ${results.refresh.toFixed(2)} (goal >= 0.5)`,
        `code exchange, Deputy / oidc-provider  ${results.code.toFixed(2)} (goal >= 0.5)`,
        `refresh, 10,000 clients and 100,000 sessions / none  ${results.scale.toFixed(2)} (goal >= 0.9)`,
        `RSS with them                          ${Math.round(memory / 1_048_576)} MB`,
        '',
        JSON.stringify(results),
      ].join('\n') + '\n',
    )
  } finally {
    await world.close()
    await stopProcess(child)
  }
}

if (process.argv.includes('--alone')) await serveAlone()
else await measure()
