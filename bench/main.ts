/**
 * `npm run bench`: Deputy's token endpoint beside a bare `node:http` server, beside the same server with a durable chained
 * record before each answer, and beside oidc-provider, in one run, by the same client, with requests of the same size and the
 * audit log durable. Ratios, not absolute times. Then what many tenants and many requests cost; `--quick` leaves that out.
 * `--against FOLDER` measures the version in another checkout of Deputy in turn with this one.
 */
import { aCompany, RESOURCES } from '../test/support/configuration.ts'
import { ask, startDaemonProcess, startTestIssuer } from '../test/support/daemon.ts'
import { serveOidc } from './floors.ts'
import { linesOfHot, measureHot } from './hot.ts'
import { exchangeForm, SECONDS, type Measured } from './load.ts'
import { measureScale, type Scale } from './scale.ts'
import { measureSilence } from './silence.ts'

/** How many cached exchanges memory is watched over. */
const EXCHANGES = 1_000_000

const linesOf = (scale: Scale): string[] => [
  `100,000 grants in 10,000 tenants against 100 in 10: ${Math.round(scale.many)}/s to ${Math.round(scale.few)}/s = ${scale.ratio.toFixed(2)} (goal >= 0.9), RSS ${Math.round(scale.rssMany / 1_048_576)} MB (goal < 400; ${Math.round(scale.rssFull / 1_048_576)} with every cache full), start ${scale.startMany.toFixed(2)} s`,
  `RSS growth               ${(scale.growth / 1_048_576).toFixed(1)} MB in ${scale.exchanges} cached exchanges (goal < 20 in 1,000,000)`,
]

const valueOf = (option: string): string | undefined => {
  const at = process.argv.indexOf(option)
  return at < 0 ? undefined : process.argv[at + 1]
}

/** Seconds from the start of a daemon that has run before to its first token. */
const measureStart = async (): Promise<number> => {
  const issuer = await startTestIssuer()
  const daemon = await startDaemonProcess(aCompany({ issuer: issuer.url }))
  const exp = Math.floor(Date.now() / 1000) + 3600
  const body = exchangeForm(await issuer.sign({ aud: RESOURCES.notes, org: 'acme', exp }), 'ledger', 'ledger:read')
  const exchange = () =>
    ask(daemon, {
      path: '/oauth2/token',
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      body,
    })
  await exchange()
  await daemon.stop()
  const started = performance.now()
  await daemon.start()
  await exchange()
  const seconds = (performance.now() - started) / 1000
  await daemon.close()
  await issuer.close()
  return seconds
}

const run = async (): Promise<void> => {
  const isQuick = process.argv.includes('--quick')
  const against = valueOf('--against')
  const hot = await measureHot({ main: import.meta.filename, isQuick, seconds: isQuick ? 1 : SECONDS, against })
  process.stdout.write(`${linesOfHot(hot).join('\n')}\n`)
  const firstToken = await measureStart()
  const silence = await measureSilence()
  const scale = isQuick ? undefined : await measureScale(EXCHANGES)
  const row = (name: string, { perSecond, p50, p99, failed }: Measured): string =>
    `${name.padEnd(32)} ${String(Math.round(perSecond)).padStart(8)}/s  p50 ${p50.toFixed(2)} ms  p99 ${p99.toFixed(2)} ms  failed ${failed}`
  process.stdout.write(
    [
      row('exchange, secret fresh', silence.fresh),
      row('exchange, backend silent, copy', silence.silent),
      `p99 silent - fresh       ${silence.p99More.toFixed(1)} ms (goal <= 5)`,
      `start to first token     ${firstToken.toFixed(2)} s (goal <= 1.5)`,
      ...(scale === undefined ? [] : linesOf(scale)),
      '',
      JSON.stringify({ hot, start_to_first_token_seconds: firstToken, scale, silence }),
    ].join('\n') + '\n',
  )
}

if (process.argv.includes('--oidc')) serveOidc()
else await run()
