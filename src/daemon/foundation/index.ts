/** Opens what all other parts stand on: the store, and the keys to its records. The daemon and `deputy store` call it. */
export { type AuditSinks, openAuditSinks } from './audit-sinks.ts'
export {
  keysFolder,
  type KeysAndStore,
  nodeName,
  openKeysAndStore,
  postgresOptions,
  type ReadTls,
  redisOptions,
  type Surroundings,
  UNFINISHED_RESTORE,
} from './foundation.ts'
