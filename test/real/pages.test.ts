/** The shell commands of the pages, as a reader types them, against the real servers. */
import { spawn, type ChildProcess } from 'node:child_process'
import { existsSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest'
import { findMoto, startMoto } from '../peers/moto.ts'
import { findOpenBao } from '../peers/openbao.ts'
import { findPostgres, startPostgres } from '../peers/postgres.ts'
import { asAdmin } from '../support/postgres-logins.ts'
import { CLI, freePort, stopProcess } from '../support/process.ts'

const [bao, bin, moto] = [findOpenBao(), findPostgres(), findMoto()]
const aws = (process.env['PATH'] ?? '').split(delimiter).some((folder) => existsSync(join(folder, 'aws')))
if (moto !== undefined && !aws)
  process.stderr.write('\n*** SKIPPED: the page for AWS. It needs the `aws` command. ***\n\n')

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'deputy-page-'))
  await mkdir(join(folder, 'bin'))
  await writeFile(join(folder, 'bin/deputy'), `#!/bin/sh\nexec ${process.execPath} ${CLI} "$@"\n`)
  await chmod(join(folder, 'bin/deputy'), 0o755)
})
afterEach(async () => {
  await rm(folder, { recursive: true, force: true })
})

/** @returns what the commands of a page print; its daemon ends with them */
const walk = async (page: string, environment: Readonly<Record<string, string>>, more = ''): Promise<string> => {
  const text = await readFile(new URL(`../../docs/${page}`, import.meta.url), 'utf8')
  const blocks = [...text.matchAll(/```sh\n([\s\S]*?)```/g)].map(([, block]) => block!)
  const given = Object.keys(environment)
  const commands = blocks
    .join('\n')
    .replaceAll(/^export .*$/gm, (line) =>
      line.replaceAll(/\b(\w+)=\S+/g, (pair, name: string) => (given.includes(name) ? '' : pair)),
    )
    .replace(
      'deputy init --no-input $DEPUTY_HOME',
      `deputy init --no-input $DEPUTY_HOME; sed -i s/7880/${await freePort()}/ $DEPUTY_HOME/deputy.yaml`,
    )
    .replace(/^deputy serve &$/m, 'deputy serve > serve.log 2>&1 & SERVE=$!; trap "kill $SERVE; wait $SERVE" EXIT')
  const child = spawn('bash', ['-e', '-o', 'pipefail', '-c', `${commands}\n${more}`], {
    cwd: folder,
    signal: AbortSignal.timeout(120_000),
    env: {
      HOME: folder,
      ...environment,
      PATH: [join(folder, 'bin'), environment['PATH'] ?? '', process.env['PATH'] ?? ''].join(delimiter),
    },
  })
  let printed = ''
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => {
      printed += chunk.toString()
    })
  child.on('error', () => undefined)
  const code = await new Promise((resolve) => child.on('close', resolve))
  expect(code, printed).toBe(0)
  return printed
}

describe('pages that are walked', () => {
  it.skipIf(bao === undefined || bin === undefined)('docs/openbao.md', async () => {
    const postgres = await startPostgres(bin!)
    onTestFinished(() => postgres.close())
    await asAdmin(postgres, await postgres.createDatabase(), 'create database orders')
    const port = await freePort()
    const url = `http://127.0.0.1:${port}`
    const server: ChildProcess = spawn(
      bao!,
      ['server', '-dev', '-dev-root-token-id=root', '-dev-no-store-token', `-dev-listen-address=127.0.0.1:${port}`],
      { stdio: 'ignore' },
    )
    onTestFinished(() => stopProcess(server, 'SIGKILL'))
    while (
      (await fetch(`${url}/v1/sys/health`).then(
        (response) => response.status,
        () => 0,
      )) !== 200
    )
      await sleep(50)
    const printed = await walk('openbao.md', {
      BAO_ADDR: url,
      PATH: dirname(bao!),
      PG: `127.0.0.1:${postgres.port}`,
      PGADMIN: 'deputy',
      PGPASSWORD: postgres.password,
    })
    expect(printed).toMatch(/"access_token":"first-key"/)
    expect(printed).toMatch(/secrets bao: ok/)
    expect(printed).toMatch(/"access_token":"\{\\"username\\":\\"v-approle-/)
    expect(printed).toMatch(/notes +orders +ended/)
  })

  it.skipIf(moto === undefined || !aws)('docs/aws.md', async () => {
    const server = await startMoto(moto!)
    onTestFinished(() => server.close())
    const printed = await walk('aws.md', {
      AWS_ENDPOINT_URL: server.url,
      AWS_ACCESS_KEY_ID: 'test',
      AWS_SECRET_ACCESS_KEY: 'test',
    })
    expect(printed).toMatch(/"access_token":"first-password"/)
    expect(printed).toMatch(/secrets aws: ok\n.*key service: ok/)
  })
})
