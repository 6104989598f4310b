import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import { toNodeHandler } from '@modelcontextprotocol/node'
import { createMcpHandler } from '@modelcontextprotocol/server'
import { isHosted, type Server, type Snapshot } from '#config'
import { callerOf, createGateAt, createRequestState, placesOf } from '#sdk/hosting'
import { createBackend, createHostedDeputy, type InProcessDependencies } from './in-process.ts'
import { createToolsServer } from './tools-server.ts'

export interface McpListenerDependencies extends InProcessDependencies {
  readonly now: () => number
  /** Signs what a client brings back with the answer to a question: 32 bytes, of each server another key. */
  readonly stateKey: (server: string) => Uint8Array
}

/** The listener of the MCP servers that Deputy hosts. */
export interface HostedServers {
  readonly onRequest: RequestListener
  /** Tells clients that listen that their tools have changed: after a reload. */
  toolsChanged(): void
  close(): Promise<void>
}

interface HostedServer {
  readonly onRequest: (request: IncomingMessage, response: ServerResponse) => void
  toolsChanged(): void
  close(): Promise<void>
}

/** What clients see of a server in `initialize` and `server/discover`. */
const infoOf = ({ server, name, version = '0', description }: Server) => ({
  name: server,
  ...(name === undefined ? {} : { title: name }),
  version,
  ...(description === undefined ? {} : { instructions: description }),
})

const openServer = (id: string, deps: McpListenerDependencies): HostedServer => {
  const report = (problem: string): void => {
    deps.logger.info({ server: id }, problem)
  }
  const onerror = (error: Error): void => {
    report(error.message)
  }
  const requestState = createRequestState({ key: deps.stateKey(id) }, deps.now)
  const handler = createMcpHandler(
    ({ authInfo }) =>
      createToolsServer({
        info: infoOf(deps.snapshot().servers.get(id)!),
        backend: createBackend(id, callerOf(authInfo), deps),
        requestState,
        report,
      }),
    { onerror },
  )
  const answer = toNodeHandler(handler, { onerror })
  const gate = createGateAt(
    createHostedDeputy(id, deps),
    // The files in force are at hand: a reload takes effect with the next request.
    { report, registrationLifetime: 0, now: deps.now },
    (request, response, body) => answer(request, response, body),
  )
  return {
    onRequest: (request, response) => {
      gate.listener(request, response)
    },
    toolsChanged: () => {
      handler.notify.toolsChanged()
    },
    close: () => handler.close(),
  }
}

/** A server that a path leads to, and the host under which it is known. */
interface Route {
  readonly server: string
  readonly host: string
}
type Routes = ReadonlyMap<string, readonly Route[]>

/** The servers that Deputy hosts, by the paths of their endpoints and of their metadata. */
const routesOf = ({ servers }: Snapshot): Routes => {
  const routes = new Map<string, Route[]>()
  for (const { server, resource } of [...servers.values()].filter(isHosted)) {
    const { endpoint, metadata } = placesOf(resource)
    const route = { server, host: new URL(resource).host }
    for (const path of [endpoint, metadata]) routes.set(path, [...(routes.get(path) ?? []), route])
  }
  return routes
}

/** Where several servers have the path of a request, its host decides, and where it does not, none is chosen. */
const serverFor = (request: IncomingMessage, routes: Routes): string | undefined => {
  const found = routes.get(URL.parse(request.url ?? '', 'http://localhost')?.pathname ?? '') ?? []
  if (found.length < 2) return found[0]?.server
  const host = (request.headers.host ?? '').toLowerCase()
  const ofHost = found.filter((route) => route.host === host)
  return ofHost.length === 1 ? ofHost[0]?.server : undefined
}

/**
 * Serves the tools of every server that Deputy hosts, as MCP over Streamable HTTP, behind the gate of the middleware.
 */
export const createHostedServers = (deps: McpListenerDependencies): HostedServers => {
  const open = new Map<string, HostedServer>()
  let known: { readonly of: Snapshot; readonly routes: Routes } | undefined
  const of = (id: string): HostedServer => {
    let found = open.get(id)
    if (found === undefined) open.set(id, (found = openServer(id, deps)))
    return found
  }
  return {
    onRequest(request, response) {
      const snapshot = deps.snapshot()
      if (known?.of !== snapshot) known = { of: snapshot, routes: routesOf(snapshot) }
      const server = serverFor(request, known.routes)
      if (server === undefined) {
        response.writeHead(404, { 'Content-Type': 'application/json', 'Cache-Control': 'no-store' })
        response.end(JSON.stringify({ error: 'not_found' }))
      } else of(server).onRequest(request, response)
    },
    toolsChanged() {
      for (const server of open.values()) server.toolsChanged()
    },
    async close() {
      await Promise.all([...open.values()].map((server) => server.close()))
    },
  }
}
