/**
 * A real SPIRE server and agent, with a join token and the Unix attestor, whose workload is this process.
 * 1. `findSpire()` says whether the machine has them; if not, loudly. They are built by hand, in ten minutes on an idle machine:
 *
 *        mkdir spire && cd spire && go mod init peers.example/spire
 *        go get -tool github.com/spiffe/spire/cmd/spire-server@v1.13.3 github.com/spiffe/spire/cmd/spire-agent@v1.13.3
 *        go build -o ~/.cache/deputy-peers/spire-1.13.3/ \
 *          github.com/spiffe/spire/cmd/spire-server github.com/spiffe/spire/cmd/spire-agent
 *
 * 2. `startSpire()` starts them, with a Postgres for the server's state, and registers this process as a workload.
 */
import { execFile, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { freePort, stopProcess } from '../support/process.ts'
import { peersFolder } from './install.ts'
import type { PostgresServer } from './postgres.ts'

const run = promisify(execFile)
const VERSION = '1.13.3'
const TRUST_DOMAIN = 'example.org'

/** The programs of a SPIRE installation. */
export interface SpirePrograms {
  readonly server: string
  readonly agent: string
}

export const findSpire = (): SpirePrograms | undefined => {
  const folders = [
    peersFolder(),
    join(peersFolder(), `spire-${VERSION}`),
    ...(process.env['PATH'] ?? '').split(delimiter).filter((folder) => folder !== ''),
  ]
  const found = folders
    .map((folder) => ({ server: join(folder, 'spire-server'), agent: join(folder, 'spire-agent') }))
    .find(({ server, agent }) => existsSync(server) && existsSync(agent))
  if (found === undefined)
    process.stderr.write(
      `\n*** SKIPPED: the tests that need SPIRE ${VERSION}. test/peers/spire.ts says how to build it. ***\n\n`,
    )
  return found
}

export interface Spire {
  /** `iss` of the JWT-SVIDs. */
  readonly issuer: string
  readonly spiffeId: string
  /** The bundle of the trust domain, as a SPIFFE bundle endpoint serves it. */
  bundle(): Promise<string>
  /** A JWT-SVID of this process, from the agent's Workload API. */
  fetchJwt(audience: string): Promise<string>
  close(): Promise<void>
}

/** Repeats until it succeeds. @throws the last error */
const untilDone = async <T>(work: () => Promise<T>): Promise<T> => {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await work()
    } catch (error) {
      if (attempt === 240) throw error
      await sleep(250)
    }
  }
}

const serverConf = (folder: string, port: number, database: string, issuer: string): string => `
server {
  bind_address = "127.0.0.1"
  bind_port = "${port}"
  socket_path = "${folder}/server.sock"
  trust_domain = "${TRUST_DOMAIN}"
  data_dir = "${folder}/server"
  jwt_issuer = "${issuer}"
}
plugins {
  DataStore "sql" { plugin_data { database_type = "postgres" connection_string = "${database}" } }
  NodeAttestor "join_token" { plugin_data {} }
  KeyManager "memory" { plugin_data {} }
}
`

const agentConf = (folder: string, port: number): string => `
agent {
  data_dir = "${folder}/agent"
  server_address = "127.0.0.1"
  server_port = "${port}"
  socket_path = "${folder}/agent.sock"
  trust_bundle_path = "${folder}/bundle.pem"
  trust_domain = "${TRUST_DOMAIN}"
}
plugins {
  NodeAttestor "join_token" { plugin_data {} }
  KeyManager "memory" { plugin_data {} }
  WorkloadAttestor "unix" { plugin_data {} }
}
`

export const startSpire = async (programs: SpirePrograms, postgres: PostgresServer): Promise<Spire> => {
  const folder = await mkdtemp(join(tmpdir(), 'deputy-spire-'))
  const port = await freePort()
  const issuer = `https://spire.${TRUST_DOMAIN}`
  const [host, spiffeId] = [`spiffe://${TRUST_DOMAIN}/host`, `spiffe://${TRUST_DOMAIN}/ci/deploy`]
  const database = await postgres.createDatabase()
  const connection = `dbname=${database} user=deputy password=${postgres.password} host=127.0.0.1 port=${postgres.port} sslmode=disable`
  await writeFile(join(folder, 'server.conf'), serverConf(folder, port, connection, issuer))
  await writeFile(join(folder, 'agent.conf'), agentConf(folder, port))
  const children = [spawn(programs.server, ['run', '-config', join(folder, 'server.conf')], { stdio: 'ignore' })]
  const close = async (): Promise<void> => {
    await Promise.all(children.map((child) => stopProcess(child)))
    await rm(folder, { recursive: true, force: true })
  }
  const atServer = async (...args: string[]): Promise<string> =>
    (await run(programs.server, [...args, '-socketPath', join(folder, 'server.sock')])).stdout
  try {
    await writeFile(join(folder, 'bundle.pem'), await untilDone(() => atServer('bundle', 'show')))
    const token = /Token: (\S+)/.exec(await atServer('token', 'generate', '-spiffeID', host))![1]!
    children.push(
      spawn(programs.agent, ['run', '-config', join(folder, 'agent.conf'), '-joinToken', token], { stdio: 'ignore' }),
    )
    const selector = `unix:uid:${process.getuid?.() ?? 0}`
    await atServer('entry', 'create', '-parentID', host, '-spiffeID', spiffeId, '-selector', selector)
  } catch (error) {
    await close()
    throw error
  }
  return {
    issuer,
    spiffeId,
    bundle: () => atServer('bundle', 'show', '-format', 'spiffe'),
    // The agent learns of its entries every few seconds.
    fetchJwt: (audience) =>
      untilDone(async () => {
        const asked = ['api', 'fetch', 'jwt', '-audience', audience, '-output', 'json']
        const { stdout } = await run(programs.agent, [...asked, '-socketPath', join(folder, 'agent.sock')])
        const token = /"svid"\s*:\s*"([^"]+)"/.exec(stdout)?.[1]
        if (token === undefined) throw new Error(`no JWT-SVID in ${stdout}`)
        return token
      }),
    close,
  }
}
