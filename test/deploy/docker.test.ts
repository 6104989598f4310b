/** The image's files, without a Docker engine: linted, compared with the repository, and their commands run here. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { run as lint } from 'dockerfilelint'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { z } from 'zod'
import { settingsSchema } from '../../src/config/settings.ts'
import { parseYamlFile } from '../../src/config/yaml-file.ts'
import { startDaemonProcess, type Daemon } from '../support/daemon.ts'

const ROOT = resolve(import.meta.dirname, '../..')
const FOLDER = join(ROOT, 'deploy/docker')
const read = (name: string): string => readFileSync(join(FOLDER, name), 'utf8')
const dockerfile = read('Dockerfile')

interface Instruction {
  readonly name: string
  readonly text: string
  readonly stage: number
}

const instructions: Instruction[] = []
for (const line of dockerfile
  .replaceAll(/^#.*\n/gm, '')
  .replaceAll('\\\n', ' ')
  .split('\n')
  .filter((each) => each !== '')) {
  const [, name = '', text = ''] = /^(\w+)\s+(.*)$/.exec(line) ?? []
  instructions.push({ name, text, stage: (instructions.at(-1)?.stage ?? -1) + (name === 'FROM' ? 1 : 0) })
}
const last = Math.max(...instructions.map(({ stage }) => stage))
const final = (name: string): string[] =>
  instructions.filter((each) => each.stage === last && each.name === name).map(({ text }) => text)
const strings = (text: string | undefined): string[] => z.array(z.string()).parse(JSON.parse(text ?? ''))

describe('Dockerfile', () => {
  test('the linter finds nothing', () => {
    // It does not know the platform, and that the argument of the base has a tag.
    const known = dockerfile.replaceAll(/(?:--platform=\$BUILDPLATFORM )?\$\{NODE\}/g, 'node:24-slim')
    expect(lint(FOLDER, known)).toEqual([])
    expect(dockerfile).toContain('ARG NODE=docker.io/library/node:24-slim\n')
  })

  test('the last stage does not run as root', () => {
    expect(final('USER')).toEqual(['7880'])
    expect(final('RUN').join('\n')).toContain('useradd --uid 7880')
  })

  test('what starts needs no shell', () => {
    expect([...strings(final('ENTRYPOINT')[0]), ...strings(final('CMD')[0])]).toEqual([
      'node',
      '/usr/lib/deputy/dist/cli/main.js',
      'serve',
    ])
  })

  test('what is copied from the repository is what npm run package makes, and nothing else goes to the builder', () => {
    const sources = instructions
      .filter(({ name, text }) => name === 'COPY' && !text.startsWith('--from='))
      .flatMap(({ text }) => text.split(' ').slice(0, -1))
    const sent = read('Dockerfile.dockerignore')
      .split('\n')
      .filter((line) => line.startsWith('!'))
      .map((line) => line.slice(1))
    expect(sources).toEqual(['dist/packages/deputy-[0-9]*.tgz', 'dist/packages/deputy-[0-9]*.cdx.json'])
    expect(sources).toEqual(sent)
  })

  test('is of the architecture that is built for, on a base that can be named by digest', () => {
    expect(instructions.filter(({ name }) => name === 'FROM').map(({ text }) => text)).toEqual([
      '--platform=$BUILDPLATFORM ${NODE} AS build',
      '${NODE}',
    ])
    expect(dockerfile).toContain('--cpu="$cpu"')
    expect(final('LABEL').join('\n')).toContain('org.opencontainers.image.licenses')
  })
})

const compose = z
  .object({
    services: z.object({
      deputy: z.looseObject({
        read_only: z.boolean(),
        cap_drop: z.array(z.string()),
        security_opt: z.array(z.string()),
        group_add: z.array(z.string()),
        volumes: z.array(z.string()),
        stop_grace_period: z.string(),
        build: z.object({ context: z.string(), dockerfile: z.string() }),
      }),
    }),
  })
  .parse(parse(read('compose.yaml'))).services.deputy

describe('compose.yaml', () => {
  test('takes away what the daemon does not need, and publishes no port', () => {
    expect(compose).toMatchObject({ read_only: true, cap_drop: ['ALL'], security_opt: ['no-new-privileges:true'] })
    expect(compose).not.toHaveProperty('ports')
    expect(compose).not.toHaveProperty('privileged')
  })

  test('builds the Dockerfile out of the root of the repository', () => {
    expect(resolve(FOLDER, compose.build.context)).toBe(ROOT)
    expect(existsSync(join(ROOT, compose.build.dockerfile))).toBe(true)
  })

  test('waits longer for the end than requests under way may take', () => {
    expect(Number(compose.stop_grace_period.replace('s', '')) * 1000).toBeGreaterThan(
      settingsSchema.parse({}).limits.drain,
    )
  })

  test('the settings for it are valid and use its volumes and its group', () => {
    const {
      values: [settings],
      problems,
    } = parseYamlFile('deputy.yaml', read('deputy.yaml'), settingsSchema)
    expect(problems).toEqual([])
    const mounted = compose.volumes.map((volume) => volume.split(':')[1])
    expect(mounted).toContain(settings?.value.state)
    expect(mounted.some((folder) => settings?.value.listen.socket === `${folder}/deputy.sock`)).toBe(true)
    expect(compose.group_add).toEqual([String(settings?.value.listen.socket_group)])
  })
})

describe('cluster.compose.yaml', () => {
  const { services, volumes } = parse(read('cluster.compose.yaml'), { merge: true }) as {
    services: Record<
      string,
      {
        environment?: Record<string, string>
        volumes?: string[]
        secrets?: string[]
        cap_drop?: string[]
        read_only?: boolean
        ports?: unknown
        stop_grace_period?: string
      }
    >
    volumes: Record<string, unknown>
  }
  const {
    values: [settings],
    problems,
  } = parseYamlFile('deputy.yaml', read('cluster.deputy.yaml'), settingsSchema)
  const nodes = Object.entries(services).filter(([name]) => name.startsWith('deputy-'))

  test('has three nodes, each with a name and a state of its own, and the same keys', () => {
    expect(nodes).toHaveLength(3)
    expect(new Set(nodes.map(([, node]) => node.environment!['DEPUTY_NODE'])).size).toBe(3)
    const at = (folder: string): string[] =>
      nodes.map(([, node]) => node.volumes!.find((volume) => volume.split(':')[1] === folder)!.split(':')[0]!)
    expect([
      new Set(at('/var/lib/deputy')).size,
      new Set(at('/run/deputy')).size,
      new Set(at('/var/lib/deputy-keys')),
    ]).toEqual([3, 3, new Set(['keys'])])
    for (const [, node] of nodes) {
      expect(node).toMatchObject({ read_only: true, cap_drop: ['ALL'] })
      for (const volume of node.volumes!)
        if (!volume.startsWith('.')) expect(Object.keys(volumes)).toContain(volume.split(':')[0])
    }
    for (const service of Object.values(services)) expect(service.ports).toBeUndefined()
  })

  test('the settings for it are valid, and what they refer to is there', () => {
    expect(problems).toEqual([])
    const { value } = settings!
    expect(value.store).toMatchObject({ postgres: { host: 'postgres' } })
    expect(value.cache.redis?.nodes[0]?.host).toBe('redis')
    for (const name of ['postgres', 'redis']) expect(Object.keys(services)).toContain(name)
    for (const [, secret] of JSON.stringify(value).matchAll(/\/run\/secrets\/(\w+)/g))
      expect(nodes[0]![1].secrets).toContain(secret)
    expect(read('Dockerfile')).toContain(value.keys)
  })
})

describe('the health check', () => {
  const [, program, ...args] = ['', ...strings(final('HEALTHCHECK')[0]?.replace(/^.*? CMD /, ''))]
  const check = async (socket: string): Promise<number> => {
    const child = spawn(program === 'node' ? process.execPath : String(program), args, {
      env: { DEPUTY_SOCKET: socket },
      stdio: 'ignore',
    })
    const [code] = (await once(child, 'exit')) as [number]
    return code
  }
  let daemon: Daemon
  beforeAll(async () => {
    daemon = await startDaemonProcess({})
  })
  afterAll(async () => {
    await daemon.close()
  })

  test('is 0 while a daemon answers on the socket', async () => {
    expect(await check(daemon.socketPath)).toBe(0)
  })
  test('is 1 where nobody answers', async () => {
    expect(await check(join(daemon.home, 'run/nobody.sock'))).toBe(1)
  })
})
