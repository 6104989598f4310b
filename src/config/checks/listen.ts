/** Addresses and sockets in `listen` that the kernel would refuse, before the daemon opens them. */
import { join, resolve } from 'node:path'
import type { Loaded } from '../loaded.ts'
import type { Problem } from '../problem.ts'

/** `sun_path` of unix(7) has 108 bytes, the last of them zero. */
const SOCKET_BYTES = 107

/** Whether only this machine reaches the host. */
export const isLoopback = (host: string): boolean =>
  host === 'localhost' || host === '::1' || host === '[::1]' || /^127(\.\d{1,3}){3}$/.test(host)

type ListenProblems = (loaded: Loaded) => Problem[]

const openAddresses: ListenProblems = ({ settings: { value, file, lineOf } }) =>
  (['tcp', 'proxy', 'metrics'] as const).flatMap((name) => {
    const address = value.listen[name]
    return address === null || isLoopback(address.host)
      ? []
      : [
          {
            file,
            line: lineOf(['listen', name]),
            message: `listen.${name} is ${address.host}, which other machines can reach.`,
            fix: `Write 127.0.0.1:${address.port}, or null.`,
          },
        ]
  })

/** Listeners that want one port; port 0 is a free one each time. */
const sharedPorts: ListenProblems = ({ settings: { value, file, lineOf } }) => {
  const names = ['tcp', 'proxy', 'connect', 'mcp', 'metrics'] as const
  return names.flatMap((name, at) => {
    const own = value.listen[name]
    const twin = names
      .slice(0, at)
      .find(
        (other) =>
          own !== null &&
          own.port !== 0 &&
          value.listen[other]?.port === own.port &&
          value.listen[other]?.host === own.host,
      )
    return twin === undefined
      ? []
      : [
          {
            file,
            line: lineOf(['listen', name]),
            message: `listen.${name} has the address of listen.${twin}.`,
            fix: 'Give each listener a port of its own.',
          },
        ]
  })
}

const longPaths: ListenProblems = ({ home, settings: { value, file, lineOf }, downstreams }) => {
  const { listen } = value
  const redisNames = [...downstreams.keys()].map((id) => `${id}.sock`)
  const longest = redisNames.reduce((a, b) => (a.length >= b.length ? a : b), '')
  const sockets: readonly (readonly [keyof typeof listen, string | null | undefined])[] = [
    ['socket', listen.socket],
    ['admin', listen.admin],
    ['proxy_socket', listen.proxy_socket],
    ['postgres', listen.postgres === null ? null : join(listen.postgres, '.s.PGSQL.5432')],
    ['redis', listen.redis === null ? null : join(listen.redis, longest)],
  ]
  return sockets.flatMap(([name, path]) => {
    if (path === null || path === undefined) return []
    const bytes = Buffer.byteLength(resolve(home, path))
    return bytes <= SOCKET_BYTES
      ? []
      : [
          {
            file,
            line: lineOf(['listen', name]),
            message: `The path of the socket listen.${name} has ${bytes} bytes, and the kernel takes ${SOCKET_BYTES}.`,
            fix: `Write a shorter absolute path, for example /run/deputy/${name}.sock.`,
          },
        ]
  })
}

/** Everything about `listen` that cannot work, or that would open a local listener to other machines. */
export const listenProblems: ListenProblems = (loaded) => [
  ...openAddresses(loaded),
  ...sharedPorts(loaded),
  ...longPaths(loaded),
]
