import type { Child } from './child.ts'
import type { Credentials } from './credentials.ts'
import type { Session } from './session.ts'

/** A child with its credentials. The sessions in which they were obtained stay open for as long as it may use them. */
export interface Running {
  readonly child: Child
  /** The session of the child's whole life, by which the daemon knows the process. */
  lifeSession: Session
  /** The session in which its credentials were obtained; undefined when it has none. */
  credentialSession: Session | undefined
  credentials: Credentials
}

export const closeSessions = ({
  lifeSession,
  credentialSession,
}: Pick<Running, 'lifeSession' | 'credentialSession'>): void => {
  lifeSession.close()
  credentialSession?.close()
}

/** Ends a child that does not become the command. */
export const discard = (running: Running): void => {
  closeSessions(running)
  running.child.signal('SIGKILL')
}
