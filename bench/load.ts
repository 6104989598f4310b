/** The client that every server is measured with. */
import { join } from 'node:path'
import { Pool } from 'undici'
import { TOKEN_EXCHANGE, ACCESS_TOKEN, ask } from '../test/support/daemon.ts'

const CONNECTIONS = 32
export const SECONDS = Number(process.env['BENCH_SECONDS'] ?? 4)

export interface Measured {
  readonly perSecond: number
  readonly p50: number
  readonly p99: number
  readonly failed: number
  readonly requests: number
}

/** Keeps every connection busy for a time that is bounded. @param body gives the request's form; called for each */
export const load = async (
  to: { origin: string; socketPath?: string },
  path: string,
  body: () => string,
  seconds = SECONDS,
  {
    headers = {},
    connections = CONNECTIONS,
  }: { headers?: Readonly<Record<string, string>>; connections?: number } = {},
): Promise<Measured> => {
  const pool = new Pool(to.origin, {
    connections,
    pipelining: 1,
    ...(to.socketPath === undefined ? {} : { connect: { socketPath: to.socketPath } }),
  })
  const times: number[] = []
  let failed = 0
  const until = performance.now() + seconds * 1000
  const began = performance.now()
  await Promise.all(
    Array.from({ length: connections }, async () => {
      while (performance.now() < until) {
        const start = performance.now()
        const { statusCode, body: answer } = await pool.request({
          path,
          method: 'POST',
          headers: { 'content-type': 'application/x-www-form-urlencoded', host: 'localhost', ...headers },
          body: body(),
        })
        await answer.text()
        if (statusCode !== 200) failed += 1
        times.push(performance.now() - start)
      }
    }),
  )
  const elapsed = (performance.now() - began) / 1000
  await pool.close()
  times.sort((a, b) => a - b)
  const at = (part: number): number => times[Math.min(times.length - 1, Math.floor(times.length * part))] ?? NaN
  return { perSecond: times.length / elapsed, p50: at(0.5), p99: at(0.99), failed, requests: times.length }
}

/** The form of a token exchange. */
export const exchangeForm = (subject: string, audience: string, scope: string): string =>
  new URLSearchParams({
    grant_type: TOKEN_EXCHANGE,
    subject_token: subject,
    subject_token_type: ACCESS_TOKEN,
    audience,
    scope,
  }).toString()

/** Resident memory of a daemon (bytes). */
export const rss = async (home: string): Promise<number> => {
  const status = await ask({ socketPath: join(home, 'run/admin.sock') }, { path: '/status' })
  return (status.body['memory'] as { rss: number }).rss
}
