import type { IncomingMessage } from 'node:http'
import ipaddr from 'ipaddr.js'
import type { Rates } from '#foundation/cache'

/** Address ranges in which a reverse proxy stands before Deputy, and no client of the internet. */
const NEAR = new Set(['loopback', 'private', 'uniqueLocal', 'linkLocal', 'carrierGradeNat'])

const isNear = (address: string): boolean => ipaddr.isValid(address) && NEAR.has(ipaddr.process(address).range())

/** The address that a request comes from: of one that a near proxy has passed on, the last that the proxy names. */
export const addressOf = ({ socket, headers }: IncomingMessage): string => {
  const peer = socket.remoteAddress ?? 'unknown'
  const passedOn = [headers['x-forwarded-for'] ?? []].flat().join(',').split(',').at(-1)?.trim() ?? ''
  return isNear(peer) && ipaddr.isValid(passedOn) ? ipaddr.process(passedOn).toString() : peer
}

/** Counts a client that Deputy has not met before. @throws DeputyError `rate_limited` */
export const admitNewClient = async (rates: Pick<Rates, 'admit'>, address: string): Promise<void> => {
  await rates.admit('new_clients_by_address', [address])
  await rates.admit('new_clients', [])
}
