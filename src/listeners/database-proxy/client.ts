import type { Socket } from 'node:net'
import type { DatabaseSession } from './listener.ts'

/** A connection of a program to one of the listeners. */
export interface DatabaseClient {
  readonly socket: Socket
  readonly correlationId: string
  /** What has been read from the client and not been used; the reader lets go of the socket. */
  takeRest(): Buffer
  /** Tells the listener that the connection is logged in. */
  onSession(session: DatabaseSession): void
}
