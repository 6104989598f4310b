import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { getCACertificates } from 'node:tls'
import { refuse } from '#errors'

/** How a host of another's is reached, where that is not as the network has it. */
export interface HostRoute {
  /** Host as URLs have it, with the port where that is not the usual one. */
  readonly host: string
  /** Origin to which requests for it go. */
  readonly at?: string | undefined
  /** Certificate authorities (PEM) for this host only, in addition to those of the system. */
  readonly ca?: string | undefined
}

/** As settings have it: `ca` is a file, relative to the home. */
type HostSettings = readonly {
  readonly host: string
  readonly at?: string | undefined
  readonly ca?: string | undefined
}[]

/** Reads the files that the settings name. @throws DeputyError `config_invalid` */
export const readHostRoutes = (home: string, hosts: HostSettings): Promise<HostRoute[]> =>
  Promise.all(
    hosts.map(async ({ ca, ...route }) => {
      if (ca === undefined) return route
      try {
        return { ...route, ca: await readFile(resolve(home, ca), 'utf8') }
      } catch (error) {
        throw refuse('config_invalid', { problem: `the certificates of ${route.host} in ${ca} cannot be read` }, error)
      }
    }),
  )

/** Finds the way to the host of a URL. */
export const createRouter = (routes: readonly HostRoute[]) => {
  const byHost = new Map(routes.map((route) => [route.host.toLowerCase(), route]))
  const authorities = new Map(
    routes.flatMap(({ host, ca }) =>
      ca === undefined ? [] : [[host.toLowerCase(), [...getCACertificates('default'), ca]] as const],
    ),
  )
  return {
    /** Where a request for the URL is sent: the same path, at another origin where the settings say so. */
    to(url: URL): URL {
      const at = byHost.get(url.host)?.at
      if (at === undefined) return url
      const target = new URL(url)
      const { protocol, host } = new URL(at)
      target.protocol = protocol
      target.host = host
      if (new URL(at).port === '') target.port = ''
      return target
    },
    /** The authorities for the host of the URL; undefined: those of the system. */
    authoritiesOf: (url: URL): readonly string[] | undefined => authorities.get(url.host),
  }
}
