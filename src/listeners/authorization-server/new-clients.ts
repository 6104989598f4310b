import type { IncomingMessage } from 'node:http'
import ipaddr, { type IPv6 } from 'ipaddr.js'
import type { Rates } from '#foundation/cache'

/** Address ranges in which a reverse proxy stands before Deputy, and no client of the internet. */
const NEAR = new Set(['loopback', 'private', 'uniqueLocal', 'linkLocal', 'carrierGradeNat'])

const isNear = (address: string): boolean => ipaddr.isValid(address) && NEAR.has(ipaddr.process(address).range())

/** One subscriber has at least a /64 of IPv6 (RFC 6177), and is one place. */
const placeOf = (address: string): string => {
  if (!ipaddr.isValid(address)) return address
  const parsed = ipaddr.process(address)
  return parsed.kind() === 'ipv4' ? parsed.toString() : `${(parsed as IPv6).parts.slice(0, 4).join(':')}/64`
}

/** The address that a request comes from: of one that a near proxy has passed on, the last that the proxy names. */
export const addressOf = ({ socket, headers }: IncomingMessage): string => {
  const peer = socket.remoteAddress ?? 'unknown'
  const passedOn = [headers['x-forwarded-for'] ?? []].flat().join(',').split(',').at(-1)?.trim() ?? ''
  return placeOf(isNear(peer) && ipaddr.isValid(passedOn) ? passedOn : peer)
}

/** Counts a client that Deputy has not met before. @throws DeputyError `rate_limited` */
export const admitNewClient = async (rates: Pick<Rates, 'admit'>, address: string): Promise<void> => {
  await rates.admit('new_clients_by_address', [address])
  await rates.admit('new_clients', [])
}
