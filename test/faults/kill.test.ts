import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { aCompany, RESOURCES } from '../support/configuration.ts'
import { startOAuthProvider } from '../doubles/oauth-provider.ts'
import { grantFiles, seedGrants } from '../support/grants.ts'
import { ACCESS_TOKEN, prepareDaemon, startDaemonProcess, startTestIssuer, TOKEN_EXCHANGE } from '../support/daemon.ts'

/** The campaign is the same test with more kills: KILLS=200 npm test -- test/faults */
const KILLS = Number(process.env['KILLS'] ?? 2)

describe('a daemon that is killed under load', () => {
  it(
    `promise 3: after each of ${KILLS} kills no acknowledged record is missing and the chain holds`,
    { timeout: 60_000 + KILLS * 30_000 },
    async () => {
      const issuer = await startTestIssuer()
      const daemon = await startDaemonProcess(aCompany({ issuer: issuer.url }))
      const subject = await issuer.sign({
        aud: RESOURCES.notes,
        org: 'acme',
        exp: Math.floor(Date.now() / 1000) + 7200,
      })
      const form = {
        grant_type: TOKEN_EXCHANGE,
        subject_token: subject,
        subject_token_type: ACCESS_TOKEN,
        audience: 'ledger',
        scope: 'ledger:read',
      }
      const acknowledged = new Set<string>()
      try {
        for (let kill = 0; kill < KILLS; kill += 1) {
          const before = acknowledged.size
          let running = true
          const load = Promise.all(
            Array.from({ length: 8 }, async () => {
              while (running) {
                const answer = await daemon.token(form).catch(() => undefined)
                if (answer?.status === 200) acknowledged.add(String(answer.headers['x-correlation-id']))
                // One that is gone refuses at once: without a pause the clients hold up its next start.
                else await sleep(20)
              }
            }),
          )
          // A slow machine has to have answered something before the kill.
          await expect.poll(() => acknowledged.size, { interval: 10 }).toBeGreaterThan(before)
          await new Promise((resolve) => {
            setTimeout(resolve, 100 + Math.random() * 200)
          })
          await daemon.stop('SIGKILL')
          running = false
          await load
          await daemon.start()
          const verified = JSON.parse((await daemon.deputy('audit', 'verify', '--json')).out) as { ok: boolean }
          expect(verified.ok).toBe(true)
        }
        const recorded = new Set(
          (await daemon.deputy('audit', 'export')).out
            .trim()
            .split('\n')
            .map((line) => (JSON.parse(line) as { record?: { id: string } }).record?.id),
        )
        expect(acknowledged.size).toBeGreaterThan(KILLS)
        expect([...acknowledged].filter((id) => !recorded.has(id))).toEqual([])
      } finally {
        await daemon.close()
        await issuer.close()
      }
    },
  )

  it(
    `promises 3 and 6, requirement 25: after each of ${KILLS} kills in the middle of refreshes no refresh token that was acknowledged is missing`,
    { timeout: 60_000 + KILLS * 30_000 },
    async () => {
      const issuer = await startTestIssuer()
      const provider = await startOAuthProvider()
      // Every answer is used up at once, so that every request refreshes.
      provider.lifetime = 1
      const daemon = await prepareDaemon({
        ...aCompany({ issuer: issuer.url, notes: { downstreams: { 'notes-api': { scopes: ['read'] } } } }),
        ...grantFiles(provider),
      })
      const users = Array.from({ length: 40 }, (_, at) => `user-${at}`)
      const exchange = async (user: string) =>
        daemon.token({
          grant_type: TOKEN_EXCHANGE,
          subject_token: await issuer.sign({ aud: RESOURCES.notes, org: 'acme', sub: user }),
          subject_token_type: ACCESS_TOKEN,
          audience: 'notes-api',
          scope: 'read',
        })
      let checked = 0
      try {
        for (let kill = 0; kill < KILLS; kill += 1) {
          if (kill > 0) await daemon.stop()
          // Those whose refresh was cut off have to connect again: everybody gets a new grant for the next turn.
          const grants = await seedGrants(daemon.home, provider, users)
          await daemon.start()
          const acknowledged = new Map<string, string>()
          let running = true
          const load = Promise.all(
            Array.from({ length: 8 }, async (_, worker) => {
              for (let turn = worker; running; turn += 8) {
                const user = users[turn % users.length]!
                const answer = await exchange(user).catch(() => undefined)
                if (answer?.status === 200) acknowledged.set(user, String(answer.body['access_token']))
              }
            }),
          )
          // More than the eight that the kill finds under way.
          await expect.poll(() => acknowledged.size, { interval: 10 }).toBeGreaterThan(8)
          await new Promise((resolve) => {
            setTimeout(resolve, 150 + Math.random() * 300)
          })
          await daemon.stop('SIGKILL')
          running = false
          await load
          await daemon.start()
          for (const [user, grant] of grants) {
            // What the provider issued last was handed out, so it had been stored before.
            if (acknowledged.get(user) !== grant.latestAccess()) continue
            expect([user, (await exchange(user)).status]).toEqual([user, 200])
            checked += 1
          }
        }
        expect(checked).toBeGreaterThan(KILLS)
      } finally {
        await daemon.close()
        await provider.close()
        await issuer.close()
      }
    },
  )
})
