import type { Server, Snapshot } from '#config'
import type { PeerProcess } from './caller-evidence.ts'

type UnixSelector = Extract<Server['attest'][number], { unix: unknown }>['unix']

/** The servers that this daemon sees. */
export interface Registry {
  byId(id: string): Server | undefined
  all(): Iterable<Server>
  /** Servers one of whose Unix selectors fits the process. */
  matching(peer: PeerProcess): readonly Server[]
  /** What the selectors need to know about a process. */
  readonly wants: { readonly exe: boolean; readonly sha256: boolean }
}

/** What a started server has to be, by its file. */
const programsOf = (server: Server): { exe: string | undefined; sha256: string | undefined }[] =>
  server.attest.flatMap((way) => ('exec' in way ? [{ exe: way.exec.command, sha256: way.exec.sha256 }] : []))

const selectorsOf = (server: Server): UnixSelector[] =>
  server.attest.flatMap((way) => ('unix' in way ? [way.unix] : []))

const fits = (selector: UnixSelector, peer: PeerProcess): boolean =>
  (selector.uid === undefined || selector.uid === peer.uid) &&
  (selector.gid === undefined || selector.gid === peer.gid) &&
  (selector.exe === undefined || selector.exe === peer.exe) &&
  (selector.sha256 === undefined || selector.sha256 === peer.sha256)

const build = (snapshot: Snapshot): Registry => {
  const { servers } = snapshot
  const selectors = [...servers.values()].flatMap((server) =>
    selectorsOf(server).map((selector) => ({ server, selector })),
  )
  const wanted = [...selectors.map(({ selector }) => selector), ...[...servers.values()].flatMap(programsOf)]
  const byUid = Map.groupBy(selectors, ({ selector }) => selector.uid)
  const ofAnyUser = byUid.get(undefined) ?? []
  // A process is looked up once in a snapshot: it is the same object for every request of its connection.
  const found = new WeakMap<PeerProcess, readonly Server[]>()
  const find = (peer: PeerProcess): Server[] => [
    ...new Set(
      [...(byUid.get(peer.uid) ?? []), ...ofAnyUser]
        .filter(({ selector }) => fits(selector, peer))
        .map(({ server }) => server),
    ),
  ]
  return {
    byId: (id) => servers.get(id),
    all: () => servers.values(),
    matching(peer) {
      let servers = found.get(peer)
      if (servers === undefined) found.set(peer, (servers = find(peer)))
      return servers
    },
    wants: {
      exe: wanted.some(({ exe }) => exe !== undefined),
      sha256: wanted.some(({ sha256 }) => sha256 !== undefined),
    },
  }
}

const registries = new WeakMap<Snapshot, Registry>()

/** The registry of a snapshot, built once. */
export const registryOf = (snapshot: Snapshot): Registry => {
  let registry = registries.get(snapshot)
  if (registry === undefined) registries.set(snapshot, (registry = build(snapshot)))
  return registry
}

const compatible = <T>(left: T | undefined, right: T | undefined): boolean =>
  left === undefined || right === undefined || left === right

/** Whether a server gets credentials at all. */
export const isInUse = ({ status }: Server): boolean => status === 'approved' || status === 'deprecated'

/** Pairs of servers in use that one process could be taken for: the kernel cannot tell them apart. */
export const overlappingServers = (snapshot: Snapshot): [Server, Server][] => {
  const servers = [...snapshot.servers.values()].filter((server) => isInUse(server) && selectorsOf(server).length > 0)
  return servers.flatMap((left, at) =>
    servers
      .slice(at + 1)
      .filter((right) =>
        selectorsOf(left).some((a) =>
          selectorsOf(right).some(
            (b) =>
              compatible(a.uid, b.uid) &&
              compatible(a.gid, b.gid) &&
              compatible(a.exe, b.exe) &&
              compatible(a.sha256, b.sha256),
          ),
        ),
      )
      .map((right): [Server, Server] => [left, right]),
  )
}
