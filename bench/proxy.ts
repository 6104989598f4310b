/**
 * `npm run bench:proxy`: the injecting proxy with a cached credential beside a bare `node:http` reverse proxy, in one run, by the
 * same client before the same service, each a process of its own, with the audit log durable. Then what a long stream
 * costs, and what `deputy.fetch` adds to a plain `fetch`. `--quick` is a shorter form.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { RESOURCES } from '../test/support/configuration.ts'
import { startTestIssuer } from '../test/support/daemon.ts'
import { freePort, startProcess, stopProcess } from '../test/support/process.ts'
import { startProxied } from '../test/support/proxy.ts'
import { connectDeputy } from '../src/sdk/index.ts'
import { load, rss, type Measured } from './load.ts'

const isQuick = process.argv.includes('--quick')
const SECONDS = isQuick ? 2 : Number(process.env['BENCH_SECONDS'] ?? 4)
const ROUNDS = isQuick ? 2 : 5
const STREAM = (isQuick ? 128 : 1024) * 1_048_576

const folder = await mkdtemp(join(tmpdir(), 'deputy-bench-'))

/** Answers a small body, or as many bytes as the path names. */
const startService = async (): Promise<{ port: number; stop(): Promise<void> }> => {
  const port = await freePort()
  const file = join(folder, 'service.mjs')
  await writeFile(
    file,
    `import { createServer } from 'node:http'
const small = Buffer.from(JSON.stringify({ hello: 'x'.repeat(500) })), block = Buffer.alloc(262144, 'the quick brown fox ')
createServer((request, response) => {
  request.resume()
  const size = Number(request.url.split('/bytes/')[1] ?? 0)
  if (size === 0) { request.on('end', () => { response.writeHead(200, { 'content-type': 'application/json', 'content-length': small.length }).end(small) }); return }
  response.writeHead(200, { 'content-length': size })
  let left = size
  const more = () => { while (left > 0) { const part = block.subarray(0, Math.min(left, block.length)); left -= part.length; if (!response.write(part)) { response.once('drain', more); return } } response.end() }
  more()
}).listen(${port}, '127.0.0.1', () => console.log('listening'))`,
  )
  const child = await startProcess([file], /listening/)
  return { port, stop: () => stopProcess(child) }
}

/** What anybody would write: passes requests and answers on, over kept connections. */
const startBare = async (port: number): Promise<{ socketPath: string; stop(): Promise<void> }> => {
  const socketPath = join(folder, 'bare.sock')
  const file = join(folder, 'bare.mjs')
  await writeFile(
    file,
    `import { Agent, createServer, request as send } from 'node:http'
const agent = new Agent({ keepAlive: true })
createServer((request, response) => {
  const outgoing = send({ host: '127.0.0.1', port: ${port}, agent, path: request.url.slice('/d/api'.length), method: request.method, headers: { ...request.headers, authorization: 'Bearer k3y-of-the-service' } }, (answer) => {
    response.writeHead(answer.statusCode, answer.headers)
    answer.pipe(response)
  })
  request.pipe(outgoing)
}).listen(${JSON.stringify(socketPath)}, () => console.log('listening'))`,
  )
  const child = await startProcess([file], /listening/)
  return { socketPath, stop: () => stopProcess(child) }
}

/** Reads a long answer and throws it away. @returns MB a second */
const stream = (socketPath: string, headers: Readonly<Record<string, string>>): Promise<number> =>
  new Promise((resolve, reject) => {
    const began = performance.now()
    request(
      { socketPath, path: `/d/api/bytes/${STREAM}`, headers: { host: 'localhost', ...headers }, agent: false },
      (response) => {
        let size = 0
        response
          .on('data', (chunk: Buffer) => {
            size += chunk.length
          })
          .on('error', reject)
        response.on('end', () => {
          if (size === STREAM && response.statusCode === 200)
            resolve(STREAM / 1_048_576 / ((performance.now() - began) / 1000))
          else reject(new Error(`${response.statusCode}: ${size} bytes`))
        })
      },
    )
      .on('error', reject)
      .end()
  })

/** One request after the other. @returns the median (ms) */
const alone = async (send: () => Promise<Response>): Promise<number> => {
  const times: number[] = []
  for (let count = 0; count < (isQuick ? 500 : 2000); count += 1) {
    const began = performance.now()
    const response = await send()
    await response.arrayBuffer()
    if (response.status !== 200) throw new Error(`${response.status}`)
    times.push(performance.now() - began)
  }
  return middle(times)
}

const middle = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!

const issuer = await startTestIssuer()
const service = await startService()
const bare = await startBare(service.port)
const daemon = await startProxied(issuer, {
  api: {
    secret: 'k3y-of-the-service',
    inject: {
      hosts: [`http://127.0.0.1:${service.port}`],
      as: { header: 'Authorization', value: 'Bearer {credential}' },
    },
  },
})
const headers = {
  'deputy-subject-token': await issuer.sign({
    aud: RESOURCES.notes,
    org: 'acme',
    exp: Math.floor(Date.now() / 1000) + 3600,
  }),
}
const form = (): string => 'a=b'
const ask = (socketPath: string, seconds: number, connections: number): Promise<Measured> =>
  load({ origin: 'http://localhost', socketPath }, '/d/api/x', form, seconds, { headers, connections })

await ask(bare.socketPath, 1, 32)
await ask(daemon.proxySocket, 2, 32)
const rounds: { bare: Measured; proxy: Measured; bareAlone: Measured; proxyAlone: Measured }[] = []
for (let round = 0; round < ROUNDS; round += 1) {
  rounds.push({
    bare: await ask(bare.socketPath, SECONDS, 32),
    proxy: await ask(daemon.proxySocket, SECONDS, 32),
    bareAlone: await ask(bare.socketPath, 1, 1),
    proxyAlone: await ask(daemon.proxySocket, 1, 1),
  })
}
const deputy = connectDeputy({ socket: daemon.socketPath })
const url = `http://127.0.0.1:${service.port}/x`
// A minted token: deputy.fetch sends bearer tokens alone, and the service here takes any.
const carried = deputy.fetch('ledger', headers['deputy-subject-token'], { scopes: ['ledger:read'] })
const reusing = connectDeputy({ socket: daemon.socketPath, reuse: 5000 })
const reused = reusing.fetch('ledger', headers['deputy-subject-token'], { scopes: ['ledger:read'] })
await alone(() => carried(url))
const fetches = {
  plain: await alone(() => fetch(url)),
  carried: await alone(() => carried(url)),
  reused: await alone(() => reused(url)),
}
for (const each of [deputy, reusing]) each.close()

await stream(daemon.proxySocket, headers)
const before = await rss(daemon.home)
const proxyRate = await stream(daemon.proxySocket, headers)
const growth = ((await rss(daemon.home)) - before) / 1_048_576
const bareRate = await stream(bare.socketPath, headers)

const ratios = rounds.map(({ bare, proxy }) => proxy.perSecond / bare.perSecond)
const added = rounds.map(({ bareAlone, proxyAlone }) => proxyAlone.p50 - bareAlone.p50)
const results = {
  rounds,
  fetches,
  ratio: middle(ratios),
  added_p50: middle(added),
  stream_mb: STREAM / 1_048_576,
  growth_mb: growth,
  proxy_mb_per_second: proxyRate,
  bare_mb_per_second: bareRate,
}
process.stdout.write(
  [
    ...rounds.map(
      ({ bare, proxy, bareAlone, proxyAlone }) =>
        `bare ${Math.round(bare.perSecond)}/s p99 ${bare.p99.toFixed(2)} ms, proxy ${Math.round(proxy.perSecond)}/s p99 ${proxy.p99.toFixed(2)} ms, failed ${bare.failed + proxy.failed}; one at a time: bare p50 ${bareAlone.p50.toFixed(2)} ms, proxy p50 ${proxyAlone.p50.toFixed(2)} ms`,
    ),
    `requests/s, proxy / bare     ${results.ratio.toFixed(2)} (goal >= 0.55)`,
    `added p50, one at a time     ${results.added_p50.toFixed(2)} ms (goal <= 1)`,
    `deputy.fetch, added p50      ${(fetches.carried - fetches.plain).toFixed(2)} ms, with reuse ${(fetches.reused - fetches.plain).toFixed(2)} ms (goal <= 0.3; plain fetch ${fetches.plain.toFixed(2)} ms)`,
    `${results.stream_mb} MB streamed            RSS growth ${growth.toFixed(1)} MB (goal < 50), ${Math.round(proxyRate)} MB/s (bare: ${Math.round(bareRate)})`,
    '',
    JSON.stringify(results),
  ].join('\n') + '\n',
)
await Promise.all([
  daemon.close(),
  bare.stop(),
  service.stop(),
  issuer.close(),
  rm(folder, { recursive: true, force: true }),
])
