import type { Deputy } from '../index.ts'
import type { Registration } from '../registration.ts'
import { placesOf, type Places } from './metadata.ts'

/** The server's registration, and the paths that follow from it. */
export interface Registered {
  readonly registration: Registration
  readonly places: Places
}

/** Cache lifetime of a registration (ms). What a user may do is checked with each request. */
const LIFETIME_MS = 60_000

/** Reads the registration and caches it. While Deputy is unreachable the last one is used. @throws DeputyClientError when there is none */
export const createRegistrationCache = (deputy: Pick<Deputy, 'server'>, now: () => number, lifetime = LIFETIME_MS) => {
  let known: (Registered & { readonly at: number }) | undefined
  let reading: Promise<Registered> | undefined
  const read = async (): Promise<Registered> => {
    const registration = await deputy.server()
    known = { registration, places: placesOf(registration.resource), at: now() }
    return known
  }
  return async (): Promise<Registered> => {
    if (known !== undefined && now() - known.at < lifetime) return known
    try {
      return await (reading ??= read().finally(() => {
        reading = undefined
      }))
    } catch (error) {
      if (known === undefined) throw error
      return known
    }
  }
}
