import { DatabaseSync } from 'node:sqlite'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { prepareDaemon, type Daemon } from '../support/daemon.ts'
import {
  authorize,
  redeemCode,
  refreshTokens,
  registerClient,
  signInAtClient,
  startSignInAt,
  type SignInWorld,
} from '../support/sign-in.ts'

/** How often the daemon is killed. The campaign is the same test with more kills: KILLS=100 npm test -- test/sign-in/kill */
const KILLS = Number(process.env['KILLS'] ?? 2)

let world: SignInWorld<Daemon>
let client: string

beforeAll(async () => {
  world = await startSignInAt(await prepareDaemon({}))
  client = await registerClient(world)
})
afterAll(() => world?.close())

/** Refresh tokens that were not used yet, of each session. */
const liveTokens = (): number[] => {
  const database = new DatabaseSync(join(world.daemon.home, 'state/deputy.db'), { readOnly: true })
  try {
    return database
      .prepare(
        `select session, count(*) as n from authorization_records
         where kind = 'RefreshToken' and consumed_at is null group by session`,
      )
      .all()
      .map(({ n }) => Number(n))
  } finally {
    database.close()
  }
}

/** Kills the daemon while the work is under way, after so many ms; starts it again. @returns what the work came to */
const killDuring = async <T>(after: number, work: () => Promise<T>): Promise<T | undefined> => {
  const done = work().catch(() => undefined)
  await new Promise((resolve) => setTimeout(resolve, after))
  await world.daemon.stop('SIGKILL')
  const result = await done
  await world.daemon.start()
  return result
}

test('promise 6: a kill while a client refreshes leaves one live refresh token, and locks no user out', async () => {
  let tokens = await signInAtClient(world, client)
  for (let kill = 0; kill < KILLS; kill += 1) {
    const { refresh_token: known } = tokens
    const answer = await killDuring((kill % 12) * 2, () => refreshTokens(world, client, known!))
    // A client that got no answer asks again with the token that it has.
    const last = answer?.status === 200 ? answer.refresh_token! : known!
    tokens = await refreshTokens(world, client, last)
    expect([kill, tokens.status, tokens.error]).toEqual([kill, 200, undefined])
    expect(Math.max(...liveTokens())).toBe(1)
  }
})

test('a kill while a code is redeemed gives tokens at most once, and the user signs in again', async () => {
  for (let kill = 0; kill < Math.ceil(KILLS / 2); kill += 1) {
    const authorization = await authorize(world, client)
    const answer = await killDuring((kill % 10) * 3, () => redeemCode(world, authorization))
    const again = await redeemCode(world, authorization)
    expect([answer?.status, again.status].filter((status) => status === 200).length).toBeLessThanOrEqual(1)
    expect(await signInAtClient(world, client)).toMatchObject({ status: 200 })
    expect(Math.max(...liveTokens())).toBe(1)
  }
})
