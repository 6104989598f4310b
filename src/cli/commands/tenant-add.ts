/** `tenant add`: the file of a new tenant, from options. */
import type { Command } from 'commander'
import { changeRegistry } from '../registry/change-registry.ts'
import { clientSecretOf, writeNewWithSecret } from '../registry/client-secret-file.ts'
import type { CommandContext } from '../context.ts'
import { readSettings } from '../home.ts'
import { claimOf } from '../registry/option-values.ts'
import { signInAddresses } from '../registry/redirect-uris.ts'
import { tenantText } from '../registry/registry-documents.ts'
import { assertNewId, assertUrl } from '../registry/registry-file.ts'
import { checkIssuer } from './registry-views.ts'

interface AddOptions {
  issuer: string
  tenantClaim?: string
  clientId?: string
  clientSecretFile?: string
  name?: string
  offline?: boolean
}

const nextOf = (id: string, addresses: readonly string[] | undefined): string =>
  [
    ...(addresses === undefined ? [] : [`register at the identity provider: ${addresses.join(' and ')}. Then:`]),
    `deputy server add NAME --resource URL --tenant ${id} --uid USER`,
  ].join(' ')

const addAction = async (id: string, options: AddOptions, context: CommandContext): Promise<void> => {
  const { terminal, home } = context
  const { issuer, clientId, name } = options
  const settings = await readSettings(home())
  await assertNewId(
    terminal,
    { home: home(), environment: settings.environment, id },
    { folder: 'tenants', key: 'tenant' },
  )
  assertUrl('an issuer', issuer)
  const claim = claimOf(options.tenantClaim, issuer)
  const secret =
    clientId === undefined
      ? undefined
      : await clientSecretOf(
          {
            home: home(),
            option: options.clientSecretFile,
            name: `${id}-sign-in`,
            isNeeded: options.clientSecretFile === undefined && terminal.openQuestions !== undefined,
          },
          terminal,
        )
  if (options.offline !== true) await checkIssuer(issuer, context)
  await changeRegistry(home(), terminal, async () => {
    const signIn = clientId === undefined ? undefined : { id: clientId, secretFile: secret?.file }
    const text = tenantText({ id, name, issuer, claim, signIn })
    const written = await writeNewWithSecret(
      { home: home(), folder: 'tenants', what: 'tenant', id, text },
      settings,
      secret,
    )
    return {
      ...written,
      done: `${written.file} is written.`,
      next: nextOf(id, clientId === undefined ? undefined : signInAddresses(settings, id)),
    }
  })
}

/** `tenant add`. */
export const addTenantAdd = (tenant: Command, context: CommandContext): void => {
  tenant
    .command('add')
    .argument('<id>')
    .description('write the file of a new tenant')
    .requiredOption('--issuer <url>', 'its identity provider')
    .option(
      '--tenant-claim <name=value>',
      'claim that names the organization, where several share the identity provider',
    )
    .option('--client-id <id>', "Deputy's client at the identity provider, for sign-in on the connect pages")
    .option(
      '--client-secret-file <path>',
      "file (0600) with that client's secret, or - for standard input; asked for at a terminal",
    )
    .option('--name <name>', 'display name of the tenant')
    .option('--offline', 'do not check that the identity provider can be reached')
    .addHelpText('after', '\nExample:\n  deputy tenant add acme --issuer https://login.acme.example --client-id deputy')
    .action((id: string, options: AddOptions) => addAction(id, options, context))
}
