/** Bytes that expire, in memory, and the rates of requests. What is cached is sealed before it comes here. */
export { type Cache, cacheKey } from './cache.ts'
export { createMemoryCache } from './memory.ts'
export { createRates, type Rates } from './rates.ts'
