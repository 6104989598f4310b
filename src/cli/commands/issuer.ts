import type { Command } from 'commander'
import { type Document, isMap, isSeq } from 'yaml'
import { servesTenant, type Snapshot } from '#config'
import { didYouMean } from '#foundation/text'
import { askYes } from '../asking.ts'
import { changeRegistry } from '../registry/change-registry.ts'
import type { CommandContext } from '../context.ts'
import { assertUrl, type DocumentPlace, editDocument, readDocument } from '../registry/registry-file.ts'
import { CommandError, exit, print, shownText, table } from '../terminal.ts'
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
    .action(async (url: string, { tenant, offline }: { tenant: string; offline?: boolean }) => {
      assertUrl('an issuer', url)
      const file = await fileOf(home(), 'tenants', 'tenant', tenant)
      if (offline !== true) await checkIssuer(url, context)
      await changeRegistry(home(), terminal, async () => {
        const undo = await editDocument({ home: home(), file, key: 'tenant', id: tenant }, (document) => {
          if (issuersIn(document).includes(url))
            throw new CommandError(exit.failed, `${tenant} trusts ${url} already.`, 'deputy issuer list')
          if (document.get('issuers') === undefined) document.set('issuers', [])
          document.addIn(['issuers'], { issuer: url })
        })
        return {
          file,
          done: `${tenant} trusts ${url} now.`,
          undo,
          next: `to let users sign in there, set sign_in in ${file} (docs/sign-in.md)`,
        }
      })
    })
}

/** Issuers of a tenant's document, in their order. */
const issuersIn = (document: Document): unknown[] => {
  const list = document.get('issuers')
  return isSeq(list) ? list.items.map((each) => (isMap(each) ? each.get('issuer') : undefined)) : []
}

/** Downstreams that send the user's own token on. */
const SENDS_USER_TOKEN: readonly string[] = ['token_exchange', 'entra_obo', 'id_jag']

/** What uses an issuer of a tenant, one line each. */
const usesOf = ({ servers, downstreams, tenants }: Snapshot, tenant: string, url: string): string[] => {
  const of = tenants.get(tenant)
  const ids = (all: Iterable<string>): string => [...all].join(', ')
  const accepting = [...servers.values()].filter(
    ({ status, tenants: served }) => status !== 'retired' && servesTenant(served, tenant),
  )
  const sending = [...downstreams.values()].filter(
    ({ credential, tenants: served }) => SENDS_USER_TOKEN.includes(credential) && servesTenant(served, tenant),
  )
  return [
    ...(accepting.length === 0
      ? []
      : [`servers that accept its tokens from users of ${tenant}: ${ids(accepting.map(({ server }) => server))}`]),
    ...(sending.length === 0
      ? []
      : [`downstreams to which such a token is sent on: ${ids(sending.map(({ downstream }) => downstream))}`]),
    ...(of?.sign_in?.issuer === url ? [`sign_in of ${tenant}: its users sign in there`] : []),
    ...(of?.issuers.length === 1 ? [`it is the last issuer of ${tenant}`] : []),
  ]
}

/** Shows what uses the issuer, and asks. @throws CommandError where it is not confirmed */
const confirmRemoval = async (
  { url, tenant, yes = false }: { readonly url: string; readonly tenant: string; readonly yes?: boolean },
  { terminal, home }: CommandContext,
): Promise<void> => {
  // Where the folder is not in order, an issuer may be the reason, and can still be removed.
  const snapshot = await readSnapshot(home()).catch(() => undefined)
  const uses =
    snapshot === undefined
      ? ['what uses it is unknown, because the folder is not in order (deputy check)']
      : usesOf(snapshot, tenant, url)
  if (uses.length === 0) return
  terminal.out(`${shownText([`${url} of ${tenant}:`, ...uses.map((use) => `  ${use}`)].join('\n'))}\n`)
  if (yes) return
  const asking = terminal.openQuestions?.()
  try {
    if (asking !== undefined && (await askYes(asking, 'Remove it?'))) return
  } finally {
    asking?.close()
  }
  throw new CommandError(exit.usage, 'Nothing was removed.', `deputy issuer remove ${url} --tenant ${tenant} --yes`)
}

/** `issuer remove`. */
const addIssuerRemove = (issuer: Command, context: CommandContext): void => {
  const { terminal, home } = context
  issuer
    .command('remove')
    .argument('<url>')
    .description('remove an issuer from the issuers that a tenant trusts; first shows what uses it')
    .requiredOption('--tenant <id>', 'the tenant that trusts it')
    .option('--yes', 'remove it although servers or downstreams use it')
    .addHelpText('after', '\nExample:\n  deputy issuer remove https://login.acme.example --tenant acme --yes')
    .action(async (url: string, { tenant, yes }: { tenant: string; yes?: boolean }) => {
      const file = await fileOf(home(), 'tenants', 'tenant', tenant)
      await assertTrusted({ home: home(), file, key: 'tenant', id: tenant }, url)
      await confirmRemoval({ url, tenant, ...(yes === undefined ? {} : { yes }) }, context)
      await changeRegistry(home(), terminal, async () => {
        const undo = await editDocument({ home: home(), file, key: 'tenant', id: tenant }, (document) => {
          document.deleteIn(['issuers', trustedAt(document, url, tenant)])
        })
        return {
          file,
          done: `${tenant} no longer trusts ${url}: its tokens are refused once the daemon has reloaded.`,
          undo,
          next: `to end what its users were given before: deputy revoke --issuer ${url} --tenant ${tenant}`,
        }
      })
    })
}

/** The place of an issuer in a tenant's document. @throws CommandError where it is not there */
const trustedAt = (document: Document, url: string, tenant: string): number => {
  const known = issuersIn(document)
  const at = known.indexOf(url)
  if (at < 0)
    throw new CommandError(
      exit.failed,
      `${tenant} does not trust ${url}. ${didYouMean(url, known.map(String))}`.trimEnd(),
      'deputy issuer list',
    )
  return at
}

/** @throws CommandError where a tenant's file does not name the issuer */
const assertTrusted = async (place: DocumentPlace, url: string): Promise<void> => {
  trustedAt(await readDocument(place), url, place.id)
}

/** `issuer list|add|remove`. */
export const addIssuerCommands = (program: Command, context: CommandContext): void => {
  const issuer = program.command('issuer').description('issuers whose tokens a tenant trusts')
  addIssuerList(issuer, context)
  addIssuerAdd(issuer, context)
  addIssuerRemove(issuer, context)
}
