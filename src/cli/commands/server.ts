import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { parse as parseYaml } from 'yaml'
import { z } from 'zod'
import { createSystemRandom } from '#clock'
import { randomText, Secret } from '#foundation/crypto'
import { exportServerJson, hashClientSecret, importServerJson } from '#identity/workload'
import type { CommandContext } from '../context.ts'
import { changeRegistry } from '../registry/change-registry.ts'
import { commented, editDocument, removing, writeNew } from '../registry/registry-file.ts'
import { callDaemon } from '../socket-client.ts'
import { print, shownTime, table } from '../terminal.ts'
import { addListing, fileOf, type Output, readSnapshot, unknownName } from './registry-views.ts'
import { addServerAdd } from './server-add.ts'
import { addServerUsage } from './server-usage.ts'

const STATUSES = { approve: 'approved', deprecate: 'deprecated', retire: 'retired' } as const

const callersSchema = z.array(
  z.looseObject({
    id: z.string(),
    facts: z.record(z.string(), z.union([z.string(), z.number()])),
    firstSeen: z.number(),
    lastSeen: z.number(),
    count: z.number(),
  }),
)

/** `server import`. */
const addServerImport = (server: Command, { terminal, home }: CommandContext): void => {
  server
    .command('import')
    .argument('<file>', 'a server.json of the MCP registry')
    .description('register a server from its server.json, with status proposed')
    .requiredOption('--owner <owner>', 'owner of the server, such as a mail address')
    .requiredOption('--tenant <id...>', 'tenants that the server serves')
    .addHelpText('after', '\nExample:\n  deputy server import server.json --owner ops@example.com --tenant acme')
    .action(async (file: string, options: { owner: string; tenant: string[] }) => {
      const draft = importServerJson(parseYaml(await readFile(resolve(terminal.workingFolder, file), 'utf8')), {
        owner: options.owner,
        tenants: options.tenant,
      })
      await changeRegistry(home(), terminal, async () => {
        const written = await writeNew({
          home: home(),
          folder: 'servers',
          what: 'server',
          id: draft.server,
          text: commented(
            'Add how it proves who it is (attest) and what it may use (downstreams), then: deputy server approve',
            { ...draft, attest: [], downstreams: {} },
          ),
        })
        return {
          file: written,
          done: `${written} is written, status proposed.`,
          undo: removing(home(), written),
          next: `add \`attest\` and \`downstreams\` to ${written}, then: deputy server approve ${draft.server}`,
        }
      })
    })
}

/** `server export`. */
const addServerExport = (server: Command, { terminal, home }: CommandContext): void => {
  server
    .command('export')
    .argument('<id>')
    .description('print a server as a server.json of the MCP registry')
    .option('--namespace <name>', 'reverse-DNS name, for a server that is not in that registry yet')
    .addHelpText('after', '\nExample:\n  deputy server export notes --namespace com.example > server.json')
    .action(async (id: string, options: { namespace?: string }) => {
      const found = (await readSnapshot(home())).servers.get(id)
      if (found === undefined) throw unknownName('server', id, (await readSnapshot(home())).servers.keys())
      terminal.out(`${JSON.stringify(exportServerJson(found, options.namespace), null, 2)}\n`)
    })
}

/** `server approve|deprecate|retire`. */
const addServerStatus = (
  server: Command,
  [verb, status]: [string, string],
  { terminal, home }: CommandContext,
): void => {
  server
    .command(verb)
    .argument('<id>')
    .description(`set a server's status to ${status}`)
    .addHelpText('after', `\nExample:\n  deputy server ${verb} NAME`)
    .action(async (id: string) => {
      const file = await fileOf(home(), 'servers', 'server', id)
      await changeRegistry(home(), terminal, async () => {
        const undo = await editDocument({ home: home(), file, key: 'server', id }, (document) => {
          document.set('status', status)
        })
        return { file, done: `${id} is ${status} now.`, undo }
      })
    })
}

/** `server secret`. */
const addServerSecret = (server: Command, { terminal }: CommandContext): void => {
  server
    .command('secret')
    .description("make a client secret; prints it once, with the hash for the server's file")
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy server secret')
    .action(async (options: Output) => {
      const random = createSystemRandom()
      const secret = randomText(random, 32)
      const scrypt = await hashClientSecret(new Secret(secret), random)
      print(
        terminal,
        options,
        { secret, scrypt },
        () =>
          `secret, shown this once: ${secret}\nin the server's file:\n  attest:\n    - client_secret:\n        scrypt: "${scrypt}"\nin the file of an MCP client:\n  authentication:\n    client_secret:\n      scrypt: "${scrypt}"`,
      )
    })
}

/** `server unknown`. */
const addServerUnknown = (server: Command, { terminal, socket }: CommandContext): void => {
  server
    .command('unknown')
    .description('callers that no registered server matches')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy server unknown')
    .action(async (options: Output) => {
      const callers = await callDaemon(await socket(), { path: '/unknown-callers' }, callersSchema)
      print(terminal, options, callers, () =>
        callers.length === 0
          ? 'No unknown caller so far.'
          : table(
              ['last_seen', 'count', 'claimed', 'uid', 'gid', 'pid', 'exe', 'sha256'],
              callers.map(({ facts, lastSeen, count }) => ({ ...facts, last_seen: shownTime(lastSeen), count })),
            ),
      )
    })
}

/** `server list|show|add|import|export|usage|approve|deprecate|retire|secret|unknown`. */
export const addServerCommands = (program: Command, context: CommandContext): void => {
  const server = program.command('server').description('registered MCP servers')
  addListing(
    server,
    {
      kind: 'server',
      columns: ['server', 'status', 'owner', 'tenants', 'resource', 'version'],
      read: ({ servers }) => [...servers.values()],
    },
    context,
  )
  addServerAdd(server, context)
  addServerImport(server, context)
  addServerExport(server, context)
  addServerUsage(server, context)
  for (const entry of Object.entries(STATUSES)) addServerStatus(server, entry, context)
  addServerSecret(server, context)
  addServerUnknown(server, context)
}
