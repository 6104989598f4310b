import type { Command } from 'commander'
import type { CommandContext } from '../context.ts'
import { assertUrl, changeRegistry, editDocument } from '../registry-file.ts'
import { print, table } from '../terminal.ts'
import { checkIssuer, fileOf, type Output, readSnapshot } from './registry-views.ts'

/** `issuer list`. */
const addIssuerList = (issuer: Command, { terminal, home }: CommandContext): void => {
  issuer
    .command('list')
    .description('list every trusted issuer')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy issuer list')
    .action(async (options: Output) => {
      const rows = [...(await readSnapshot(home())).tenants.values()].flatMap((each) =>
        each.issuers.map((trusted) => ({
          tenant: each.tenant,
          ...trusted,
          opaque_tokens: trusted.introspection !== undefined,
        })),
      )
      print(terminal, options, rows, () => table(['tenant', 'issuer', 'algorithms', 'opaque_tokens'], rows))
    })
}

/** `issuer add`. */
const addIssuerAdd = (issuer: Command, context: CommandContext): void => {
  const { terminal, home } = context
  issuer
    .command('add')
    .argument('<url>')
    .description('add an issuer to the issuers that a tenant trusts')
    .requiredOption('--tenant <id>', 'the tenant that trusts it')
    .option('--offline', 'do not check that the issuer can be reached')
    .addHelpText('after', '\nExample:\n  deputy issuer add https://login.acme.example --tenant acme')
    .action(async (url: string, options: { tenant: string; offline?: boolean }) => {
      assertUrl('an issuer', url)
      const file = await fileOf(home(), 'tenants', 'tenant', options.tenant)
      await changeRegistry(home(), terminal, async () => {
        await editDocument({ home: home(), file, key: 'tenant', id: options.tenant }, (document) => {
          if (document.get('issuers') === undefined) document.set('issuers', [])
          document.addIn(['issuers'], { issuer: url })
        })
        return { file, done: `${options.tenant} trusts ${url} now.` }
      })
      if (options.offline !== true) await checkIssuer(url, context)
    })
}

/** `issuer list|add`. */
export const addIssuerCommands = (program: Command, context: CommandContext): void => {
  const issuer = program.command('issuer').description('issuers whose tokens a tenant trusts')
  addIssuerList(issuer, context)
  addIssuerAdd(issuer, context)
}
