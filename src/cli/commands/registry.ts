import type { Command } from 'commander'
import { createContext } from '../context.ts'
import type { Terminal } from '../terminal.ts'
import { addDownstreamCommands } from './downstream.ts'
import { addIssuerCommands } from './issuer.ts'
import { addProviderCommands } from './provider.ts'
import { addListing } from './registry-views.ts'
import { addServerCommands } from './server.ts'
import { addTenantAdd } from './tenant-add.ts'
import { addTenantOrders } from './tenant.ts'

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
