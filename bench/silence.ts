/** What an exchange costs while the backend of its secret is silent and a copy is used, beside one whose secret is fresh. */
import { startUnwellHttp } from '../test/doubles/unwell.ts'
import { aCompany, RESOURCES } from '../test/support/configuration.ts'
import { startDaemonProcess, startTestIssuer } from '../test/support/daemon.ts'
import { exchangeForm, load, SECONDS, type Measured } from './load.ts'

export interface Silence {
  readonly fresh: Measured
  readonly silent: Measured
  /** By how much the 99th percentile is longer (ms). */
  readonly p99More: number
}

/** Older than this a secret is read again (ms): several times while it is measured. */
const FRESH_MS = 500

export const measureSilence = async (): Promise<Silence> => {
  const issuer = await startTestIssuer()
  const vault = await startUnwellHttp((request, _, response) => {
    const isLookup = request.url?.includes('lookup-self') === true
    const data = isLookup ? { ttl: 3600, renewable: false } : { data: { value: 'v' }, metadata: { version: 1 } }
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ data }))
  })
  const company = aCompany({ issuer: issuer.url })
  const daemon = await startDaemonProcess(
    {
      ...company,
      'state/token': 'hvs.token',
      'downstreams/mail.yaml': { ...(company['downstreams/mail.yaml'] as object), backend: 'vault' },
    },
    {
      secrets: {
        backends: {
          vault: {
            kind: 'vault',
            address: vault.url,
            login: { token: { file: 'state/token' } },
            fresh: `${FRESH_MS}ms`,
            stale: '1h',
          },
        },
      },
    },
  )
  try {
    const exp = Math.floor(Date.now() / 1000) + 3600
    const form = exchangeForm(await issuer.sign({ aud: RESOURCES.notes, org: 'acme', exp }), 'mail', '')
    const to = { origin: 'http://localhost', socketPath: daemon.socketPath }
    const run = (seconds: number): Promise<Measured> => load(to, '/oauth2/token', () => form, seconds)
    await run(1)
    const fresh = await run(SECONDS)
    await vault.set('silent')
    const silent = await run(SECONDS)
    return { fresh, silent, p99More: silent.p99 - fresh.p99 }
  } finally {
    await daemon.close()
    await vault.close()
    await issuer.close()
  }
}
