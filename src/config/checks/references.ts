/** What single files cannot show: names that are not defined, addresses that are not loopback, servers that share a resource. */
import type { Loaded } from '../loaded.ts'
import type { Problem } from '../problem.ts'
import { checkApis } from './apis.ts'
import { checkBackends } from './backends.ts'
import { checkClients } from './clients.ts'
import { checkDocuments } from './client-documents.ts'
import { checkDownstreams } from './downstreams.ts'
import { checkHosted } from './hosted.ts'
import { listenProblems } from './listen.ts'
import { checkRotations } from './rotations.ts'
import { checkServers } from './servers.ts'
import { checkSettings } from './settings.ts'
import { checkTenants } from './tenants.ts'

/** Every problem that needs more than one file, or more than one setting, to be seen. */
export const checkReferences = (loaded: Loaded): Problem[] => [
  ...listenProblems(loaded),
  ...checkSettings(loaded),
  ...checkTenants(loaded),
  ...checkServers(loaded),
  ...checkHosted(loaded),
  ...checkDownstreams(loaded),
  ...checkDocuments(loaded),
  ...checkClients(loaded),
  ...checkRotations(loaded),
  ...checkBackends(loaded),
  ...checkApis(loaded),
]
