/** The admin socket: the CLI of an administrator calls it. It parses, asks the flows, and answers; it decides nothing. */
export { createAdminApi } from './admin-api.ts'
