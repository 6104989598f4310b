/** Security events (CAEP, RISC) and back-channel logout of identity providers. A verified event becomes a revocation. */
export { createBackChannelLogout } from './back-channel-logout.ts'
export { createSignalReceiver } from './receiver.ts'
