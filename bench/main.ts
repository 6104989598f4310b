/**
 * `npm run bench`: Deputy's token endpoint beside a bare `node:http` server and beside oidc-provider, in one run, by
 * the same client, with requests of the same size and the audit log durable. Ratios, not absolute times. Then what many
 * tenants and many requests cost; `--quick` leaves that out.
 */
import { createServer } from 'node:http'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { randomUUID } from 'node:crypto'
import { Provider } from 'oidc-provider'
import { aCompany, RESOURCES } from '../test/support/configuration.ts'
import { ask, startDaemonProcess, startTestIssuer } from '../test/support/daemon.ts'
import { startProcess, stopProcess } from '../test/support/process.ts'
import { exchangeForm, load, rss, SECONDS, type Measured } from './load.ts'
import { measureScale, type Scale } from './scale.ts'
import { measureSilence } from './silence.ts'

const folder = await mkdtemp(join(tmpdir(), 'deputy-bench-'))

/** A bare server in a process of its own: parses the same form and answers the same bytes. */
const startBare = async (answer: string): Promise<{ socketPath: string; stop(): Promise<void> }> => {
  const socketPath = join(folder, 'bare.sock')
  const file = join(folder, 'bare.mjs')
  await writeFile(
    file,
    `import { createServer } from 'node:http'
const answer = Buffer.from(${JSON.stringify(answer)})
createServer((request, response) => {
  const chunks = []
  request.on('data', (chunk) => chunks.push(chunk))
  request.on('end', () => {
    new URLSearchParams(Buffer.concat(chunks).toString('utf8')).get('subject_token')
    response.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': answer.length, 'Cache-Control': 'no-store' }).end(answer)
  })
}).listen(${JSON.stringify(socketPath)}, () => console.log('listening'))`,
  )
  const child = await startProcess([file], /listening/)
  return { socketPath, stop: () => stopProcess(child) }
}

/** oidc-provider's client-credentials endpoint with JWT access tokens, in a process of its own. */
const startOidc = async (): Promise<{ origin: string; stop(): Promise<void> }> => {
  const child = await startProcess([import.meta.filename, '--oidc'], /listening \d+/)
  return { origin: `http://127.0.0.1:${port}`, stop: () => stopProcess(child) }
}
const port = 39_917

const serveOidc = async (): Promise<void> => {
  const { privateKey } = (await import('node:crypto')).generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const resource = 'https://ledger.example/api'
  const provider = new Provider(`http://127.0.0.1:${port}`, {
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
  }).listen(port, '127.0.0.1', () => {
    process.stdout.write(`listening ${port}\n`)
  })
}

/** How many cached exchanges memory is watched over. */
const EXCHANGES = 1_000_000

const linesOf = (scale: Scale): string[] => [
  `100,000 grants in 10,000 tenants against 100 in 10: ${Math.round(scale.many)}/s to ${Math.round(scale.few)}/s = ${scale.ratio.toFixed(2)} (goal >= 0.9), RSS ${Math.round(scale.rssMany / 1_048_576)} MB (goal < 400; ${Math.round(scale.rssFull / 1_048_576)} with every cache full), start ${scale.startMany.toFixed(2)} s`,
  `RSS growth               ${(scale.growth / 1_048_576).toFixed(1)} MB in ${scale.exchanges} cached exchanges (goal < 20 in 1,000,000)`,
]

const run = async (): Promise<void> => {
  const issuer = await startTestIssuer()
  const daemon = await startDaemonProcess(aCompany({ issuer: issuer.url }))
  const form = (subject: string): string => exchangeForm(subject, 'ledger', 'ledger:read')
  const subject = await issuer.sign({ aud: RESOURCES.notes, org: 'acme', exp: Math.floor(Date.now() / 1000) + 3600 })
  const answer = (
    await ask(daemon, {
      path: '/oauth2/token',
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      body: form(subject),
    })
  ).text
  const bare = await startBare(answer)
  const oidc = await startOidc()
  const same = form(subject)
  // Warm up all three, then measure.
  const to = { origin: 'http://localhost', socketPath: daemon.socketPath }
  await load({ origin: 'http://localhost', socketPath: bare.socketPath }, '/', () => same, 1)
  await load(to, '/oauth2/token', () => same, 2)
  const oidcForm = new URLSearchParams({
    grant_type: 'client_credentials',
    client_id: 'bench',
    client_secret: 'bench-secret',
    scope: 'ledger:read',
    resource: 'https://ledger.example/api',
  }).toString()
  await load({ origin: oidc.origin }, '/token', () => oidcForm, 1)
  const bareResult = await load({ origin: 'http://localhost', socketPath: bare.socketPath }, '/', () => same)
  const before = await rss(daemon.home)
  const cached = await load(to, '/oauth2/token', () => same)
  const after = await rss(daemon.home)
  const oidcResult = await load({ origin: oidc.origin }, '/token', () => oidcForm)
  const subjects = await Promise.all(
    Array.from({ length: 12_000 }, () =>
      issuer.sign({ aud: RESOURCES.notes, org: 'acme', sub: randomUUID(), exp: Math.floor(Date.now() / 1000) + 3600 }),
    ),
  )
  const uncached = await load(to, '/oauth2/token', () => form(subjects.pop() ?? subject), 3)
  await daemon.stop()
  const started = performance.now()
  await daemon.start()
  await ask(daemon, {
    path: '/oauth2/token',
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    body: same,
  })
  const firstToken = (performance.now() - started) / 1000
  const silence = await measureSilence()
  const scale = process.argv.includes('--quick') ? undefined : await measureScale(EXCHANGES)
  const results = {
    bare: bareResult,
    cached,
    uncached,
    oidc_provider: oidcResult,
    start_to_first_token_seconds: firstToken,
    unused_subjects: subjects.length,
    rss_growth_mb: (after - before) / 1_048_576,
    scale,
    silence,
    ratios: {
      cached_to_bare: cached.perSecond / bareResult.perSecond,
      cached_p99_to_bare: cached.p99 / bareResult.p99,
      cached_to_oidc: cached.perSecond / oidcResult.perSecond,
      uncached_to_oidc: uncached.perSecond / oidcResult.perSecond,
    },
  }
  const row = (name: string, { perSecond, p50, p99, failed }: Measured): string =>
    `${name.padEnd(32)} ${String(Math.round(perSecond)).padStart(8)}/s  p50 ${p50.toFixed(2)} ms  p99 ${p99.toFixed(2)} ms  failed ${failed}`
  process.stdout.write(
    [
      row('bare node:http', bareResult),
      row('cached exchange', cached),
      row('uncached minted exchange', uncached),
      row('oidc-provider client_credentials', oidcResult),
      row('exchange, secret fresh', silence.fresh),
      row('exchange, backend silent, copy', silence.silent),
      `p99 silent - fresh       ${silence.p99More.toFixed(1)} ms (goal <= 5)`,
      `cached / bare            ${results.ratios.cached_to_bare.toFixed(2)} (goal >= 0.5)`,
      `p99 cached / bare        ${results.ratios.cached_p99_to_bare.toFixed(2)} (goal <= 3)`,
      `cached / oidc-provider   ${results.ratios.cached_to_oidc.toFixed(2)} (goal >= 2)`,
      `uncached / oidc-provider ${results.ratios.uncached_to_oidc.toFixed(2)} (goal >= 0.6)`,
      `start to first token     ${firstToken.toFixed(2)} s (goal <= 1.5)`,
      `RSS growth               ${results.rss_growth_mb.toFixed(1)} MB in ${Math.round(cached.perSecond * SECONDS)} cached exchanges`,
      ...(scale === undefined ? [] : linesOf(scale)),
      '',
      JSON.stringify(results),
    ].join('\n') + '\n',
  )
  await Promise.all([
    daemon.close(),
    bare.stop(),
    oidc.stop(),
    issuer.close(),
    rm(folder, { recursive: true, force: true }),
  ])
}

if (process.argv.includes('--oidc')) await serveOidc()
else await run()
