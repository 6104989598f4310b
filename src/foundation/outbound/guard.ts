import { lookup as systemLookup } from 'node:dns/promises'
import { isIP, type LookupFunction } from 'node:net'
import { refuse } from '#errors'
import { createAddressJudge, isLoopbackHost, type AddressRules } from './address.ts'

/** Resolves a host name to its addresses. */
export type Lookup = (host: string) => Promise<readonly { address: string; family: number }[]>

/** What stands before every connection that Deputy makes (RFC 9700 section 4, threat 6). */
export interface ConnectionGuard {
  /** What can be said without asking the name service. @throws DeputyError `egress_refused` */
  assertReachable(url: URL): void
  /** Resolves for a socket, and fails with `egress_refused` unless every address may be connected to. */
  readonly lookup: LookupFunction
}

/**
 * The check and the connection use one and the same resolution: the connector asks for addresses here, each is judged,
 * and only those are handed to the socket, so that a name which resolves differently a moment later changes nothing.
 */
export const createConnectionGuard = (options: AddressRules & { readonly lookup?: Lookup }): ConnectionGuard => {
  const judge = createAddressJudge(options)
  const resolve: Lookup = options.lookup ?? ((host) => systemLookup(host, { all: true, verbatim: true }))
  return {
    lookup(host, lookupOptions, callback) {
      resolve(host).then(
        (addresses) => {
          const bad = addresses.map(({ address }) => judge(address)).find((why) => why !== undefined)
          const [first] = addresses
          // One bad address among good ones is refused too: who controls the name must not get to choose.
          if (bad !== undefined || first === undefined)
            callback(
              refuse('egress_refused', { url: host, problem: bad ?? 'it has no address' }) as NodeJS.ErrnoException,
              '',
              0,
            )
          else if (lookupOptions.all === true) callback(null, addresses as { address: string; family: number }[])
          else callback(null, first.address, first.family)
        },
        (error: NodeJS.ErrnoException) => {
          callback(error, '', 0)
        },
      )
    },
    assertReachable(url) {
      const shown = `${url.protocol}//${url.host}`
      if (url.username !== '' || url.password !== '')
        throw refuse('egress_refused', { url: shown, problem: 'it carries a user or a password' })
      const host = url.hostname.replace(/^\[|\]$/g, '')
      if (url.protocol !== 'https:' && !(url.protocol === 'http:' && options.allowLoopback && isLoopbackHost(host)))
        throw refuse('egress_refused', { url: shown, problem: 'it is not https' })
      // The URL parser has turned octal, hexadecimal and decimal forms into dotted ones. Literals skip the look-up.
      const why = isIP(host) === 0 ? undefined : judge(host)
      if (why !== undefined) throw refuse('egress_refused', { url: shown, problem: why })
    },
  }
}

/** What the guard refused, out of the error that a client made of it; undefined for any other error. */
export const refusedByGuard = (error: unknown): Error | undefined =>
  [error, (error as Error).cause].find((each): each is Error => each instanceof Error && each.name === 'DeputyError')
