/**
 * Rotations on three nodes that share a store, each killed again and again at the points that the engine lists. What it
 * counts is promise 7: logins that failed with what was handed out and had not expired, secrets that are lost, and rotations
 * that happened twice. There must be none. Where a target knows one password at a time, the change may fall between the
 * hand-out and the login: there whoever asks again has to get in.
 */
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { Client } from 'pg'
import { FORWARD_POINTS } from '../../src/flows/rotation/acts.ts'
import { askRedis } from '../peers/redis.ts'
import { RESOURCES } from '../support/configuration.ts'
import { ACCESS_TOKEN, ask, TOKEN_EXCHANGE, type Files } from '../support/daemon.ts'
import { startCluster, within, type ClusterNode } from '../support/cluster.ts'
import { logsIn } from '../support/postgres-logins.ts'
import { startProcess, testProgram } from '../support/process.ts'

const FAULTY = testProgram('faulty-daemon')

export interface RotationCampaignOptions {
  /** It goes on until so many have begun, and so many nodes were killed. */
  readonly rotations: number
  readonly kills?: number
  /** Secrets at each target, of which each is watched by a client that logs in all the time. */
  readonly secrets?: { readonly postgres: number; readonly redis: number }
  /** It ends then, whatever it has reached. */
  readonly seconds: number
  readonly report?: (line: string) => void
}

export interface RotationCampaignReport {
  readonly rotations: { readonly done: number; readonly rolledBack: number }
  readonly kills: number
  readonly killedAt: Readonly<Record<string, number>>
  readonly logins: number
  /** Logins that were tried too late, or where a change came in between: asked for and tried again. */
  readonly again: number
  /** Requests that no node could answer at that moment. */
  readonly unanswered: number
  readonly lockedOut: readonly string[]
  readonly lost: readonly string[]
  /** Versions that no rotation accounts for. */
  readonly doubled: readonly string[]
}

interface Login {
  readonly username: string
  readonly password: string
}
/** @param overlaps whether the target takes the old and the new one at the same time */
interface Target {
  readonly name: string
  readonly how: object
  readonly overlaps: boolean
  readonly first: Login
  works(login: Login): Promise<boolean>
}

/** How often a change may fall between a hand-out and a login, one after the other. */
const ASKED_AGAIN = 3

const pick = <T>(items: readonly T[]): T => items[Math.floor(Math.random() * items.length)]!

export const runRotationCampaign = async (options: RotationCampaignOptions): Promise<RotationCampaignReport> => {
  const cluster = await startCluster()
  const { nodes, postgres, redis } = cluster
  const secrets = options.secrets ?? { postgres: 12, redis: 6 }
  const database = await postgres.createDatabase()
  const admin = new Client({
    host: '127.0.0.1',
    port: postgres.port,
    user: 'deputy',
    password: postgres.password,
    database,
  })
  await admin.connect()

  const atPostgres = (login: Login): Promise<boolean> => logsIn(postgres, database, login)
  const atRedis = (login: Login): Promise<boolean> =>
    askRedis(redis.port, (client) =>
      client.auth(login.username, login.password).then(
        () => true,
        () => false,
      ),
    )
  const targets: Target[] = []
  for (let index = 0; index < secrets.postgres; index += 1) {
    const roles = [`app_${index}_a`, `app_${index}_b`].slice(0, index % 4 === 3 ? 1 : 2)
    for (const role of roles) await admin.query(`create role ${role} login`)
    await admin.query(`alter role ${roles[0]} password 'the-first'`)
    targets.push({
      name: `db-${index}`,
      overlaps: roles.length === 2,
      works: atPostgres,
      first: { username: roles[0]!, password: 'the-first' },
      how: {
        rotator: 'postgres',
        host: '127.0.0.1',
        port: postgres.port,
        database,
        tls: false,
        strategy: roles.length === 1 ? 'single' : 'alternating',
        roles,
        admin: { secret: 'postgres-admin' },
      },
    })
  }
  for (let index = 0; index < secrets.redis; index += 1) {
    const user = `cache-${index}`
    await askRedis(redis.port, async (client) => {
      await client.call('ACL', 'SETUSER', user, 'on', '>the-first', '+get')
      await client.call('ACL', 'SETUSER', 'the-admin', 'on', '>admin', '+acl', '+config')
    })
    targets.push({
      name: user,
      overlaps: true,
      works: atRedis,
      first: { username: user, password: 'the-first' },
      how: {
        rotator: 'redis',
        host: '127.0.0.1',
        port: redis.port,
        tls: false,
        user,
        admin: { secret: 'redis-admin' },
      },
    })
  }
  const files: Files = {
    ...Object.fromEntries(
      targets.flatMap(({ name, how }) => [
        [`downstreams/${name}.yaml`, { downstream: name, credential: 'static', secret: name }],
        [
          `policies/rotation/${name}.yaml`,
          {
            rotation: name,
            owner: 'data@example.com',
            secrets: { tenants: ['acme'], name },
            when: { every: '300d' },
            grace: '3s',
            how,
          },
        ],
      ]),
    ),
    'servers/notes.yaml': {
      server: 'notes',
      resource: RESOURCES.notes,
      tenants: ['acme'],
      owner: 'notes@example.com',
      status: 'approved',
      attest: [{ unix: { uid: process.getuid!() } }],
      downstreams: Object.fromEntries(targets.map(({ name }) => [name, { scopes: [] }])),
    },
    'policies/access/rotating.cedar':
      '@id("rotating")\npermit (principal, action == Deputy::Action::"static", resource);',
  }
  for (const { daemon, admin: order } of nodes) {
    await daemon.write(files)
    await order('/reload', {})
  }
  const set = async (name: string, value: object): Promise<void> => {
    await nodes[0]!.admin('/secrets', { tenant: 'acme', name, value: JSON.stringify(value) })
  }
  await set('postgres-admin', { username: 'deputy', password: postgres.password })
  await set('redis-admin', { username: 'the-admin', password: 'admin' })
  for (const { name, first } of targets) await set(name, first)

  const until = Date.now() + options.seconds * 1000
  const killedAt: Record<string, number> = {}
  const lockedOut: string[] = []
  let [kills, logins, again, unanswered, begun] = [0, 0, 0, 0, 0]
  let running = true
  const over = Promise.withResolvers<false>()

  /** A node that dies at one point after the other. */
  const spoil = async ({ daemon }: ClusterNode): Promise<void> => {
    await daemon.stop()
    while (running) {
      const point = pick(FORWARD_POINTS)
      daemon.process = await startProcess([FAULTY, daemon.home, point], /deputy is ready/)
      const gone =
        daemon.process.exitCode !== null || daemon.process.signalCode !== null
          ? Promise.resolve()
          : once(daemon.process, 'exit')
      const died = await Promise.race([gone.then(() => true), over.promise, sleep(8000).then(() => false)])
      if (died) {
        kills += 1
        killedAt[point] = (killedAt[point] ?? 0) + 1
      } else await daemon.stop('SIGKILL')
    }
    // It may have died on the way out.
    await daemon.stop('SIGKILL').catch(() => undefined)
    await daemon.start()
  }

  const token = await cluster.issuer.sign({
    aud: RESOURCES.notes,
    org: 'acme',
    sub: 'alice',
    exp: Math.floor(Date.now() / 1000) + 7200,
  })
  /** With the moment until which it may be used, on the monotonic clock (ms). */
  const handedOut = async (name: string): Promise<{ login: Login; until: number } | undefined> => {
    const askedAt = performance.now()
    const answer = await within(
      5000,
      ask(
        { socketPath: pick(nodes).daemon.socketPath },
        {
          path: '/oauth2/token',
          headers: { 'content-type': 'application/x-www-form-urlencoded' },
          body: new URLSearchParams({
            grant_type: TOKEN_EXCHANGE,
            subject_token: token,
            subject_token_type: ACCESS_TOKEN,
            audience: name,
          }).toString(),
        },
      ).catch(() => undefined),
    )
    return answer?.status === 200
      ? {
          login: JSON.parse(String(answer.body['access_token'])) as Login,
          until: askedAt + Number(answer.body['expires_in']) * 1000,
        }
      : undefined
  }
  const watch = async ({ name, overlaps, works }: Target): Promise<void> => {
    for (let refused = 0; running;) {
      const found = await handedOut(name)
      if (found === undefined) {
        unanswered += 1
        await sleep(20)
        continue
      }
      logins += 1
      const isIn = await works(found.login)
      const isLate = performance.now() > found.until
      refused = isIn ? 0 : refused + 1
      if (!isIn && (overlaps ? !isLate : refused > ASKED_AGAIN))
        lockedOut.push(`${name} as ${found.login.username} at ${new Date().toISOString()}`)
      else if (!isIn) again += 1
      await sleep(30)
    }
  }
  const rotate = async ({ name }: Target): Promise<void> => {
    while (running && (begun < options.rotations || kills < (options.kills ?? 0)) && Date.now() < until) {
      const answer = await within(
        5000,
        pick(nodes)
          .admin('/rotations/run', { tenant: 'acme', secret: name, reason: 'campaign' })
          .catch(() => undefined),
      )
      if (answer?.status === 200) {
        begun += 1
        if (begun % 25 === 0)
          options.report?.(`${begun} rotations begun, ${kills} kills, ${logins} logins, ${lockedOut.length} locked out`)
      }
      await sleep(200)
    }
  }
  const history = async (): Promise<{ secret: string; state: string; endedAt: number | null }[]> => {
    for (;;) {
      const answer = await within(
        5000,
        pick(nodes)
          .admin('/rotations?limit=10000')
          .catch(() => undefined),
      )
      if (answer?.status === 200)
        return JSON.parse(answer.text) as { secret: string; state: string; endedAt: number | null }[]
      await sleep(100)
    }
  }

  try {
    const spoilers = nodes.map(spoil)
    const watchers = targets.map(watch)
    await Promise.all(targets.map(rotate))
    running = false
    over.resolve(false)
    await Promise.all([...spoilers, ...watchers])
    // Whatever is open comes to its end now that nobody dies.
    for (
      const limit = Date.now() + 120_000;
      Date.now() < limit && (await history()).some(({ endedAt }) => endedAt === null);
    )
      await sleep(500)

    const ended = await history()
    const versions = JSON.parse((await nodes[0]!.admin('/secrets')).text) as {
      name: string
      version: number
      stage: string | null
    }[]
    const lost: string[] = []
    const doubled: string[] = []
    for (const { name, works } of targets) {
      const login = (await handedOut(name))?.login
      if (
        login === undefined ||
        !(await works(login)) ||
        ended.some(({ secret, endedAt }) => secret === name && endedAt === null)
      )
        lost.push(name)
      const mine = ended.filter(({ secret }) => secret === name).length
      const current = versions.find((each) => each.name === name && each.stage === 'current')?.version
      if (current === undefined || current > 1 + mine)
        doubled.push(`${name}: version ${current} after ${mine} rotations`)
    }
    const count = (state: string): number => ended.filter((each) => each.state === state).length
    return {
      rotations: { done: count('done'), rolledBack: count('rolled_back') },
      kills,
      killedAt,
      logins,
      again,
      unanswered,
      lockedOut,
      lost,
      doubled,
    }
  } finally {
    running = false
    await admin.end()
    await cluster.close()
  }
}
