/** `server add`: the file of a new MCP server, from options. */
import type { Command } from 'commander'
import { changeRegistry } from '../registry/change-registry.ts'
import type { CommandContext } from '../context.ts'
import { readSettings } from '../home.ts'
import { assertResource, currentUser, listOf } from '../registry/option-values.ts'
import { serverText, type Use } from '../registry/registry-documents.ts'
import { assertNewId, removing, writeNew } from '../registry/registry-file.ts'
import { proofsOf, type ProofOptions } from '../registry/server-proof.ts'
import { CommandError, exit } from '../terminal.ts'

interface AddOptions extends ProofOptions {
  resource: string
  tenant: string[]
  owner?: string
  name?: string
  downstream?: string[]
  approve?: boolean
  offline?: boolean
}

/** `ID` or `ID=SCOPE,SCOPE`. */
const useOf = (text: string): Use => {
  const at = text.indexOf('=')
  return at < 0
    ? { downstream: text, scopes: [] }
    : { downstream: text.slice(0, at), scopes: listOf(text.slice(at + 1)) }
}

const nextOf = (id: string, status: string, [use]: readonly Use[], tenants: readonly string[]): string => {
  if (status === 'proposed') return `deputy server approve ${id}`
  return use === undefined
    ? 'deputy downstream add --help'
    : `deputy policy explain --server ${id} --tenant ${tenants[0]} --user NAME --downstream ${use.downstream}`
}

const addAction = async (id: string, options: AddOptions, { terminal, home }: CommandContext): Promise<void> => {
  const { resource, tenant: named, owner = currentUser(), name, approve } = options
  const { environment } = await readSettings(home())
  await assertNewId(terminal, { home: home(), environment, id }, { folder: 'servers', key: 'server' })
  assertResource(resource)
  const proofs = await proofsOf(options, terminal)
  if (approve === true && proofs.length === 0)
    throw new CommandError(
      exit.usage,
      'A server that proves nothing gets no credentials.',
      'Add --uid USER, --public-key FILE, --client-secret or --service-account NAMESPACE/NAME.',
    )
  const status = approve === true ? 'approved' : 'proposed'
  const uses = (options.downstream ?? []).map(useOf)
  const attest = proofs.map((proof) => proof.attest)
  const tenants = named.includes('*') ? '*' : named
  await changeRegistry(home(), terminal, async () => {
    const text = serverText({ id, name, resource, tenants, owner, status, attest, uses })
    const file = await writeNew({ home: home(), folder: 'servers', what: 'server', id, text })
    return {
      file,
      done: [`${file} is written, status ${status}.`, ...proofs.flatMap(({ shown }) => shown ?? [])].join('\n'),
      undo: removing(home(), file),
      next: nextOf(id, status, uses, named),
    }
  })
}

/** `server add`. */
export const addServerAdd = (server: Command, context: CommandContext): void => {
  server
    .command('add')
    .argument('<id>', 'id of the server; it is its client id at Deputy')
    .description('write the file of a new MCP server, and check the folder')
    .requiredOption('--resource <url>', 'URL of the server: the audience of the tokens that its users bring')
    .requiredOption('--tenant <id...>', 'tenants that the server serves; "*" for all')
    .option('--owner <owner>', 'owner of the server, such as a mail address; default: the user who runs the command')
    .option('--name <name>', 'name on the consent page')
    .option('--uid <user>', 'proof: the Unix user of its process, by name or number')
    .option('--public-key <file>', 'proof: signatures by this key (PEM or JWK)')
    .option('--client-secret', 'proof: a client secret, which is made now and shown once')
    .option('--service-account <namespace/name>', 'proof: the service account of its Kubernetes pod')
    .option('--cluster-issuer <url>', 'issuer of the service accounts of that cluster')
    .option('--downstream <id=scopes...>', 'downstreams that it may use, such as github=repo,read:user')
    .option('--approve', 'set the status to approved; default: proposed, which gets no credentials yet')
    .option('--offline', 'do not check that the Unix user exists on this machine')
    .addHelpText(
      'after',
      '\nExample:\n  deputy server add notes --resource https://notes.example.com/mcp --tenant acme --uid notes --approve',
    )
    .action((id: string, options: AddOptions) => addAction(id, options, context))
}
