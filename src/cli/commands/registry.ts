import type { Command } from 'commander'
import { createContext, type CommandContext } from '../context.ts'
import { assertUrl, changeRegistry, commented, writeNew } from '../registry-file.ts'
import type { Terminal } from '../terminal.ts'
import { addDownstreamCommands } from './downstream.ts'
import { addIssuerCommands } from './issuer.ts'
import { addProviderCommands } from './provider.ts'
import { addListing, checkIssuer } from './registry-views.ts'
import { addServerCommands } from './server.ts'
import { addTenantOrders } from './tenant.ts'

/** `tenant add`. */
const addTenantAdd = (tenant: Command, context: CommandContext): void => {
  const { terminal, home } = context
  tenant
    .command('add')
    .argument('<id>')
    .description('write the file of a new tenant')
    .requiredOption('--issuer <url>', 'its identity provider')
    .option('--client-id <id>', "Deputy's client at the identity provider, for sign-in on the connect pages")
    .option('--client-secret-file <path>', "file (0600) with that client's secret")
    .option('--name <name>', 'display name of the tenant')
    .option('--offline', 'do not check that the identity provider can be reached')
    .addHelpText('after', '\nExample:\n  deputy tenant add acme --issuer https://login.acme.example --client-id deputy')
    .action(
      async (
        id: string,
        options: { issuer: string; clientId?: string; clientSecretFile?: string; name?: string; offline?: boolean },
      ) => {
        const { issuer, clientId, clientSecretFile, name } = options
        assertUrl('an issuer', issuer)
        await changeRegistry(home(), terminal, async () => {
          const file = await writeNew({
            home: home(),
            folder: 'tenants',
            what: 'tenant',
            id,
            text: commented('docs/configuration.md explains every setting.', {
              tenant: id,
              ...(name === undefined ? {} : { name }),
              issuers: [{ issuer }],
              ...(clientId === undefined
                ? {}
                : {
                    sign_in: {
                      issuer,
                      client_id: clientId,
                      ...(clientSecretFile === undefined ? {} : { client_secret: { file: clientSecretFile } }),
                    },
                  }),
            }),
          })
          return { file, done: `${file} is written.` }
        })
        if (options.offline !== true) await checkIssuer(issuer, context)
      },
    )
}

/** `tenant`, `issuer`, `server`, `downstream`, `provider`: the registry is files; these commands read and write them. */
export const addRegistryCommands = (program: Command, terminal: Terminal): void => {
  const context = createContext(program, terminal)
  const tenant = program.command('tenant').description('tenants, with their identity providers and sign-in')
  addTenantOrders(tenant, context)
  addListing(
    tenant,
    {
      kind: 'tenant',
      columns: ['tenant', 'name', 'enabled', 'issuers'],
      read: ({ tenants }) =>
        [...tenants.values()].map((each) => ({ ...each, issuers: each.issuers.map(({ issuer }) => issuer) })),
    },
    context,
  )
  addTenantAdd(tenant, context)
  addIssuerCommands(program, context)
  addServerCommands(program, context)
  const downstream = program.command('downstream').description('services for which Deputy issues credentials')
  addListing(
    downstream,
    {
      kind: 'downstream',
      columns: ['downstream', 'credential', 'enabled', 'tenants', 'resource', 'provider'],
      read: ({ downstreams }) => [...downstreams.values()],
    },
    context,
  )
  addDownstreamCommands(downstream, context)
  const provider = program.command('provider').description('OAuth providers: endpoints and behaviour of each service')
  addListing(
    provider,
    {
      kind: 'provider',
      columns: ['provider', 'name', 'client_authentication', 'pkce', 'revocation'],
      read: ({ providers }) => [...providers.values()],
    },
    context,
  )
  addProviderCommands(provider, context)
}
