import type { Secret } from '#foundation/crypto'

/**
 * The one way out to the network: a `fetch` that refuses what must not be reached. Only https, unless loopback is
 * allowed for development; the host is resolved once, every address checked, and the connection pinned to the one
 * that was checked; redirects are followed only where the caller allows it and each hop is checked again.
 */
export type Egress = (url: string | URL, init?: EgressInit) => Promise<Response>

/** With which Deputy proves itself in the TLS handshake (RFC 8705). */
export interface ClientCertificate {
  /** PEM, with chain. */
  readonly certificate: string
  /** PEM. */
  readonly key: Secret
}

export interface EgressInit extends RequestInit {
  readonly certificate?: ClientCertificate
  /** Redirects to follow at most; default 0. */
  readonly redirects?: number
  /** ms until the answer must be there, body and all; default that of the egress. */
  readonly timeout?: number
  /** Largest response body in bytes; default 1 MiB. A longer one is cut off with an error. */
  readonly maxBytes?: number
}
