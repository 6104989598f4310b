import { isHosted, type Server, type Snapshot } from '#config'
import { refuse } from '#errors'
import { registryOf } from './registry.ts'

/**
 * Says that Deputy itself is the MCP server. It is made by Deputy's own listeners and read from no message, so that no
 * caller can present one: evidence of callers is parsed into texts and numbers, never into an instance of this class.
 */
export class HostedWorkload {
  readonly server: string
  constructor(server: string) {
    this.server = server
  }
}

/** The server, if it still is one that Deputy hosts. @throws DeputyError `workload_unknown` */
export const byHosting = (hosted: HostedWorkload, snapshot: Snapshot): Server => {
  const server = registryOf(snapshot).byId(hosted.server)
  if (!(hosted instanceof HostedWorkload) || server === undefined || !isHosted(server)) throw refuse('workload_unknown')
  return server
}
