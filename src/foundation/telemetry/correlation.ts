import { AsyncLocalStorage } from 'node:async_hooks'

/** Which request work is done for, so that another service's log can be joined with Deputy's. */
export interface Correlation {
  within<T>(id: string, work: () => T): T
  /** Undefined for work that no request has asked for. */
  current(): string | undefined
}

export const createCorrelation = (): Correlation => {
  const active = new AsyncLocalStorage<string>()
  return { within: (id, work) => active.run(id, work), current: () => active.getStore() }
}
