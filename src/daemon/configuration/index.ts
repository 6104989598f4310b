/**
 * Reads the configuration folder into the files in force: documents, policies and their tests.
 * The daemon calls it at its start and at a reload, and the CLI calls it for `deputy check`.
 */
export {
  accessPolicies,
  type Configuration,
  CurrentConfiguration,
  readConfiguration,
  type ReloadResult,
  type Shipped,
} from './configuration.ts'
