import { dirname, join, resolve } from 'node:path'
import type { Clock, Random } from '#clock'
import type { Settings } from '#config'
import { createUpstreamFor } from '#flows/injected-request'
import type { Secret } from '#foundation/crypto'
import { replaceFile } from '#foundation/files'
import { createProofs } from '#foundation/outbound'
import type { Peers } from '#identity/workload'
import { type Listener, listenOnPort, listenOnSocket, tcpHosts } from '#listeners/http'
import type { ExecProxy } from '#listeners/local-api'
import { createAuthority, isLasting, openAuthority } from './authority.ts'
import { createProxy, type ProxyDependencies } from './proxy.ts'

/** Bytes of the headers, which include a user's token and the headers of the service. */
const MAX_HEADER_BYTES = 65_536
/** A caller that has gone looks at first like one that waits, and a request at the service may be expensive (ms). */
const HALF_CLOSED_MS = 5000

export interface ProxyOptions extends Omit<
  ProxyDependencies,
  'upstream' | 'proofs' | 'authority' | 'peer' | 'idleTimeout' | 'patience'
> {
  readonly settings: Settings
  readonly home: string
  /** A secret of this installation, made when there is none, or none that is good any more. */
  readonly own: (name: string, make: () => Promise<Secret>, isGood: (kept: Secret) => boolean) => Promise<Secret>
  readonly peers: Peers
  readonly socketHosts: ReadonlySet<string>
  /** Registers a listener, which is closed with the daemon. */
  readonly opened: (listener: Promise<Listener>) => Promise<Listener>
  /** Runs at the end of the daemon. */
  readonly atEnd: (close: () => Promise<void> | void) => void
  readonly clock: Clock
  readonly random: Random
}

/**
 * Opens the proxy where the settings want it. Its authority is made at the first start; the certificate is in the
 * folder of the store for programs to trust, the key is sealed.
 * @returns the addresses, and how programs that `deputy exec` starts reach it
 * @throws DeputyError `start_failed` for an address that is taken
 */
export const openProxy = async (options: ProxyOptions): Promise<{ addresses: string[]; forPrograms?: ExecProxy }> => {
  const {
    settings: { listen, limits, proxy, state },
    home,
    opened,
    clock,
  } = options
  const socket = listen.proxy_socket === undefined ? join(dirname(listen.socket), 'proxy.sock') : listen.proxy_socket
  if (listen.proxy === null && socket === null) return { addresses: [] }
  const authority = openAuthority(
    await options.own(
      'proxy-authority',
      () => createAuthority(options),
      (kept) => isLasting(kept, clock),
    ),
    options,
  )
  await replaceFile(join(resolve(home, state), 'proxy-ca.pem'), authority.certificate, 0o644)
  const upstream = createUpstreamFor(options.settings)
  options.atEnd(() => upstream.close())
  const proofs = createProofs(options)
  const on = (hosts: ReadonlySet<string>) => {
    const { onRequest, ...connections } = createProxy(
      {
        ...options,
        upstream,
        proofs,
        authority,
        idleTimeout: proxy.idle,
        patience: limits.request_timeout,
        peer: ({ socket }) => options.peers.of(socket) ?? Promise.resolve(undefined),
      },
      hosts,
    )
    // While the service works on an answer, the caller's connection is idle as well.
    return {
      onRequest,
      limits: {
        headerTimeout: limits.header_timeout,
        requestTimeout: 0,
        idleTimeout: proxy.answer + proxy.idle,
        maxHeader: MAX_HEADER_BYTES,
        halfClosedTimeout: HALF_CLOSED_MS,
        connections,
      },
    }
  }
  const addresses: string[] = []
  if (socket !== null) {
    const { onRequest, limits } = on(options.socketHosts)
    addresses.push(
      (
        await opened(
          listenOnSocket(onRequest, {
            ...limits,
            setting: 'listen.proxy_socket',
            path: resolve(home, socket),
            mode: listen.socket_mode,
            onConnection: (connection) => {
              options.peers.capturePeer(connection)
            },
            ...(listen.socket_group === undefined ? {} : { group: listen.socket_group }),
          }),
        )
      ).address,
    )
  }
  if (listen.proxy === null) return { addresses }
  const { onRequest, limits: tcpLimits } = on(tcpHosts(listen.proxy.port))
  const { address } = await opened(listenOnPort(onRequest, { ...tcpLimits, setting: 'listen.proxy', ...listen.proxy }))
  return { addresses: [...addresses, address], forPrograms: { url: `http://${address}`, ca: authority.certificate } }
}
