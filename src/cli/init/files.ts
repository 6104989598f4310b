/** The files of a new folder by what was answered, and the commands that come next. */
import type { Random } from '#clock'
import { settingsSchema } from '#config'
import { parse } from 'yaml'
import type { ServerAnswers, TenantAnswers } from './answers.ts'
import type { DownstreamAnswers } from './downstream.ts'
import { settingsText } from './settings.ts'
import { callbackAddress, signInAddresses } from '../registry/redirect-uris.ts'
import {
  downstreamText,
  permissionTest,
  permissionText,
  serverText,
  tenantText,
} from '../registry/registry-documents.ts'
import { shellWord } from '../shell-word.ts'
import { type NewFile, skeletonFiles } from './skeleton.ts'

/** What was answered, from the tenant on. */
export interface InitResult {
  readonly tenant: TenantAnswers
  readonly server: ServerAnswers | undefined
  readonly downstream: DownstreamAnswers | undefined
}

const secretFiles = ({ tenant, downstream }: InitResult): NewFile[] =>
  [tenant.secret, downstream?.secret].flatMap((secret) =>
    secret?.written === undefined ? [] : [{ path: secret.file, text: `${secret.written.reveal()}\n` }],
  )

const policyFiles = ({ tenant, server, downstream }: InitResult): NewFile[] => {
  if (server === undefined || downstream === undefined) return []
  const { id, credential, scopes } = downstream.facts
  const permission = {
    tenant: tenant.facts.id,
    server: server.facts.id,
    downstream: id,
    credential,
    scopes: Object.keys(scopes),
  }
  const path = `policies/access/${server.facts.id}`
  return [
    { path: `${path}.cedar`, text: permissionText(permission) },
    { path: `${path}.test.yaml`, text: permissionTest(permission) },
  ]
}

/** Every file; those of the skeleton first. */
export const initFiles = async (random: Random, result: InitResult): Promise<NewFile[]> => {
  const { tenant, server, downstream } = result
  const uses =
    downstream === undefined ? [] : [{ downstream: downstream.facts.id, scopes: Object.keys(downstream.facts.scopes) }]
  return [
    ...(await skeletonFiles(random, settingsText(tenant.settings))),
    ...secretFiles(result),
    { path: `tenants/${tenant.facts.id}.yaml`, text: tenantText(tenant.facts) },
    ...(downstream === undefined
      ? []
      : [{ path: `downstreams/${downstream.facts.id}.yaml`, text: downstreamText(downstream.facts) }]),
    ...(server === undefined
      ? []
      : [{ path: `servers/${server.facts.id}.yaml`, text: serverText({ ...server.facts, uses }) }]),
    ...policyFiles(result),
  ]
}

/** Addresses to register elsewhere, and secrets that are shown once; lines for people. */
export const notesOf = ({ tenant, server, downstream }: InitResult): string[] => {
  const settings = settingsSchema.parse(parse(settingsText(tenant.settings)))
  return [
    ...(server?.proofs ?? []).flatMap(({ shown }) => shown ?? []),
    ...(tenant.facts.signIn === undefined
      ? []
      : [
          `Register at the identity provider of ${tenant.facts.id}: ${signInAddresses(settings, tenant.facts.id).join(' and ')}`,
        ]),
    ...(downstream === undefined
      ? []
      : [`Register at ${downstream.provider.name}: ${callbackAddress(settings, downstream.provider)}`]),
  ]
}

/** The next three commands. */
export const nextCommands = (home: string, result: InitResult | undefined): string[] => {
  const at = `--home ${shellWord(home)}`
  const serve = `deputy serve ${at}`
  if (result === undefined)
    return [
      `deputy tenant add ID --issuer URL ${at}`,
      `deputy server add ID --resource URL --tenant ID --uid USER ${at}`,
      serve,
    ]
  const { tenant, server, downstream } = result
  const [tenantId, serverId] = [tenant.facts.id, server?.facts.id]
  const addDownstream = `deputy downstream add ID --provider ID --client-id ID ${at}`
  if (serverId === undefined)
    return [`deputy server add ID --resource URL --tenant ${tenantId} --uid USER ${at}`, addDownstream, serve]
  if (downstream === undefined) return [addDownstream, serve, `deputy status ${at}`]
  return [
    serve,
    `deputy status ${at}`,
    `deputy policy explain --server ${serverId} --tenant ${tenantId} --user NAME --downstream ${downstream.facts.id} ${at}`,
  ]
}
