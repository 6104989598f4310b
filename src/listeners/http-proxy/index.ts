/** The injecting HTTP proxy: a program sends its request without a credential, and the proxy adds the one that the exchange obtained. */
export { openProxy } from './open.ts'
