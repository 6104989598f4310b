/** What many tenants and grants cost, and what many requests leave behind. */
import { stringify } from 'yaml'
import { aCompany, RESOURCES } from '../test/support/configuration.ts'
import { startOAuthProvider } from '../test/doubles/oauth-provider.ts'
import { startDaemonProcess, startTestIssuer, type Daemon, type TestIssuer } from '../test/support/daemon.ts'
import { grantFiles, seedGrants } from '../test/support/grants.ts'
import { exchangeForm, load, rss } from './load.ts'

const FEW = { grants: 100, tenants: 10 } as const
const MANY = { grants: 100_000, tenants: 10_000 } as const
/** Users whose tokens are used in both worlds. */
const USERS = 100
/** Users who come once before memory is looked at: more than the caches hold. */
const VISITORS = 25_000
/** After so many V8's heap has found its size. */
const WARM = 250_000

export interface Scale {
  readonly few: number
  readonly many: number
  readonly ratio: number
  /** Resident memory with many grants (bytes): after the load of a few users, and with every cache full. */
  readonly rssMany: number
  readonly rssFull: number
  readonly startMany: number
  /** Growth over so many cached exchanges (bytes). */
  readonly growth: number
  readonly exchanges: number
}

const userOf = (at: number): string => `user-${at}`
const tenantAt = (at: number, tenants: number): string => `tenant-${at % tenants}`
const WEEK = 7 * 86_400

const build = async (issuer: TestIssuer, size: { grants: number; tenants: number }) => {
  const provider = await startOAuthProvider()
  const names = Array.from({ length: size.tenants }, (_, at) => tenantAt(at, size.tenants))
  const daemon = await startDaemonProcess({
    ...aCompany({ issuer: issuer.url, notes: { tenants: '*', downstreams: { 'notes-api': { scopes: ['read'] } } } }),
    ...grantFiles(provider),
    ...Object.fromEntries(
      names.map((tenant) => [
        `tenants/${tenant}.yaml`,
        stringify({ tenant, issuers: [{ issuer: issuer.url, claims: { tenant: { claim: 'org', value: tenant } } }] }),
      ]),
    ),
  })
  await daemon.stop()
  await seedGrants(
    daemon.home,
    provider,
    Array.from({ length: size.grants }, (_, at) => userOf(at)),
    { lifetime: WEEK * 1000, tenantOf: (user) => tenantAt(Number(user.slice(5)), size.tenants) },
  )
  const began = performance.now()
  await daemon.start()
  return {
    daemon,
    started: (performance.now() - began) / 1000,
    close: async () => {
      await daemon.close()
      await provider.close()
    },
  }
}

const formsOf = (issuer: TestIssuer, size: { tenants: number }, from: number, count: number): Promise<string[]> =>
  Promise.all(
    Array.from({ length: count }, async (_, at) =>
      exchangeForm(
        await issuer.sign({
          aud: RESOURCES.notes,
          org: tenantAt(from + at, size.tenants),
          sub: userOf(from + at),
          exp: Math.floor(Date.now() / 1000) + WEEK,
        }),
        'notes-api',
        'read',
      ),
    ),
  )

const measure = async (daemon: Daemon, forms: readonly string[], seconds?: number) => {
  let at = 0
  const result = await load(
    { origin: 'http://localhost', socketPath: daemon.socketPath },
    '/oauth2/token',
    () => forms[at++ % forms.length]!,
    seconds,
  )
  if (result.failed > 0) throw new Error(`${result.failed} requests were refused`)
  return result
}

/** @param exchanges how many cached exchanges memory is watched over */
export const measureScale = async (exchanges: number): Promise<Scale> => {
  const issuer = await startTestIssuer()
  const few = await build(issuer, FEW)
  const fewForms = await formsOf(issuer, FEW, 0, USERS)
  await measure(few.daemon, fewForms, 2)
  const many = await build(issuer, MANY)
  const manyForms = await formsOf(issuer, MANY, 0, USERS)
  const visitors = await formsOf(issuer, MANY, USERS, VISITORS)
  await measure(many.daemon, manyForms, 2)
  // In turns, so that both see the same machine.
  const rates = { few: 0, many: 0 }
  for (let turn = 0; turn < 3; turn += 1) {
    rates.few += (await measure(few.daemon, fewForms, 2)).perSecond / 3
    rates.many += (await measure(many.daemon, manyForms, 2)).perSecond / 3
  }
  const rssMany = await rss(many.daemon.home)
  let next = 0
  while (next < visitors.length)
    await load(
      { origin: 'http://localhost', socketPath: many.daemon.socketPath },
      '/oauth2/token',
      () => visitors[next++ % visitors.length]!,
      2,
    )
  const rssFull = await rss(many.daemon.home)
  await many.close()
  let count = 0
  while (count < WARM) count += (await measure(few.daemon, fewForms, 1)).requests
  const before = await rss(few.daemon.home)
  for (count = 0; count < exchanges;) count += (await measure(few.daemon, fewForms, 5)).requests
  const growth = (await rss(few.daemon.home)) - before
  await few.close()
  await issuer.close()
  return {
    few: rates.few,
    many: rates.many,
    ratio: rates.many / rates.few,
    rssMany,
    rssFull,
    startMany: many.started,
    growth,
    exchanges: count,
  }
}
