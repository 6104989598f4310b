/**
 * Hosts on a network of their own: network namespaces, each with a cable to one bridge, so that cables can be pulled, one
 * direction dropped, and an address moved. It needs root, iproute2 and iptables.
 */
import { execFile, spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { promisify } from 'node:util'

const run = promisify(execFile)

export interface Host {
  readonly name: string
  readonly address: string
  /** What runs a program on this host, before the program's own arguments. */
  readonly prefix: readonly [string, ...string[]]
  start(program: string, args: readonly string[], environment?: NodeJS.ProcessEnv): ChildProcess
  unplug(): Promise<void>
  /** Packets from there are lost, those to there arrive. */
  dropFrom(address: string): Promise<void>
  dropTo(address: string): Promise<void>
  /** Each packet that comes is lost with this probability. */
  lose(probability: number): Promise<void>
  /** Plugs the cable in, and loses nothing any more. */
  heal(): Promise<void>
}

export interface Network {
  /** Address of the machine itself, and of what runs outside of the hosts. */
  readonly here: string
  readonly hosts: Readonly<Record<string, Host>>
  /** Gives a further address to a host; the one that had it keeps it only where it cannot be reached. */
  move(address: string, to: Host): Promise<void>
  addressOf(number: number): string
  close(): Promise<void>
}

/** @returns why no network can be made here */
export const cannotBuild = (): string | undefined => {
  if (process.getuid?.() !== 0) return 'it needs root'
  for (const [program, name] of [
    ['ip', 'iproute2'],
    ['iptables', 'iptables'],
  ] as const)
    if (spawnSync(program, ['-V']).status !== 0) return `${program} is missing; install the package ${name}`
  const probe = `dpt-probe-${process.pid}`
  const made = spawnSync('ip', ['netns', 'add', probe], { encoding: 'utf8' })
  spawnSync('ip', ['netns', 'del', probe])
  return made.status === 0 ? undefined : `no network namespace can be made here: ${made.stderr.trim()}`
}

const hostOf = (namespace: string, name: string, { address, cable }: { address: string; cable: string }): Host => {
  const prefix = ['ip', 'netns', 'exec', namespace] as const
  const filter = (...args: string[]) => run('ip', ['netns', 'exec', namespace, 'iptables', '-w', ...args])
  return {
    name,
    address,
    prefix,
    start: (program, args, environment = {}) =>
      spawn(prefix[0], [...prefix.slice(1), program, ...args], {
        stdio: ['ignore', 'pipe', 'pipe'],
        env: { ...process.env, ...environment },
      }),
    unplug: async () => void (await run('ip', ['link', 'set', cable, 'down'])),
    dropFrom: async (from) => void (await filter('-A', 'INPUT', '-s', from, '-j', 'DROP')),
    dropTo: async (to) => void (await filter('-A', 'OUTPUT', '-d', to, '-j', 'DROP')),
    lose: async (probability) => {
      const chance = ['-m', 'statistic', '--mode', 'random', '--probability', String(probability)]
      await filter('-A', 'INPUT', '-i', 'eth0', ...chance, '-j', 'DROP')
    },
    heal: async () => {
      await filter('-F')
      await run('ip', ['link', 'set', cable, 'up'])
    },
  }
}

export const startNetwork = async (names: readonly string[]): Promise<Network> => {
  const id = randomInt(0x1000, 0xffff).toString(16)
  const third = randomInt(1, 255)
  const addressOf = (number: number): string => `10.213.${third}.${number}`
  const bridge = `dpt${id}`
  const namespaces: string[] = []
  const hosts: Record<string, Host> = {}
  const holders = new Map<string, Host>()
  const namespaceOf = (host: Host): string => host.prefix[3]!
  const close = async (): Promise<void> => {
    for (const namespace of namespaces) await run('ip', ['netns', 'del', namespace]).catch(() => undefined)
    await run('ip', ['link', 'del', bridge]).catch(() => undefined)
  }
  try {
    await run('ip', ['link', 'add', bridge, 'type', 'bridge'])
    await run('ip', ['addr', 'add', `${addressOf(1)}/24`, 'dev', bridge])
    await run('ip', ['link', 'set', bridge, 'up'])
    for (const [at, name] of names.entries()) {
      const namespace = `dpt-${id}-${name}`
      const [address, cable] = [addressOf(10 + at), `dv${id}-${at}`]
      await run('ip', ['netns', 'add', namespace])
      namespaces.push(namespace)
      await run('ip', ['link', 'add', cable, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', namespace])
      await run('ip', ['link', 'set', cable, 'master', bridge, 'up'])
      await run('ip', ['-n', namespace, 'link', 'set', 'lo', 'up'])
      await run('ip', ['-n', namespace, 'addr', 'add', `${address}/24`, 'dev', 'eth0'])
      await run('ip', ['-n', namespace, 'link', 'set', 'eth0', 'up'])
      hosts[name] = hostOf(namespace, name, { address, cable })
    }
  } catch (error) {
    await close()
    throw error
  }
  return {
    here: addressOf(1),
    hosts,
    addressOf,
    async move(address, to) {
      const before = holders.get(address)
      if (before !== undefined)
        await run('ip', ['-n', namespaceOf(before), 'addr', 'del', `${address}/32`, 'dev', 'eth0'])
      await run('ip', ['-n', namespaceOf(to), 'addr', 'add', `${address}/32`, 'dev', 'eth0'])
      holders.set(address, to)
      // What a gratuitous ARP of the new holder does: everyone asks anew who has the address.
      await run('ip', ['neigh', 'flush', 'to', address])
      for (const host of Object.values(hosts))
        if (host !== to) await run('ip', ['-n', namespaceOf(host), 'neigh', 'flush', 'to', address])
    },
    close,
  }
}
