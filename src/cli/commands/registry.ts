import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { parse as parseYaml } from 'yaml'
import { z } from 'zod'
import { createSystemRandom } from '#clock'
import { formatProblem, loadLocations, type Snapshot } from '#config'
import { randomText, Secret } from '#foundation/crypto'
import { didYouMean } from '#foundation/text'
import { exportServerJson, hashClientSecret, importServerJson } from '#identity/workload'
import { adminSocket, findHome, readSettings, shipped } from '../home.ts'
import { assertUrl, changeRegistry, commented, editDocument, writeNew } from '../registry-file.ts'
import { callDaemon } from '../socket-client.ts'
import { CommandError, exit, print, shownText, shownTime, table, withProgress, type Terminal } from '../terminal.ts'
import { addProviderCommands } from './provider.ts'
import { addTenantCommands } from './tenant.ts'
import { countOf } from '../words.ts'

interface Output {
  json?: boolean
}

const unknownName = (what: string, id: string, known: Iterable<string>): CommandError =>
  new CommandError(
    exit.failed,
    `There is no ${what} '${id}'. ${didYouMean(id, known)}`.trimEnd(),
    `deputy ${what} list`,
  )

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

const usageSchema = z.array(
  z.looseObject({
    server: z.string(),
    tool: z.string().nullable(),
    owner: z.string().nullable(),
    state: z.enum(['used', 'unused', 'unregistered', 'deprecated']),
    calls: z.number(),
    lastAt: z.number().nullable(),
    users: z.array(z.looseObject({ tenant: z.string().nullable(), user: z.string().nullable(), calls: z.number() })),
  }),
)

/** The table, and below it who has to be told of what is on its way out. */
const tellUsage = (usage: z.output<typeof usageSchema>, days: string): string => {
  if (usage.length === 0) return 'No server is registered, and none has called.'
  const nameOf = ({ server, tool }: { server: string; tool: string | null }): string =>
    `${server}${tool === null ? '' : ` ${tool}`}`
  const deprecated = usage.filter(({ state }) => state === 'deprecated')
  const unused = usage.filter(({ state }) => state === 'unused').length
  return [
    table(
      ['server', 'tool', 'owner', 'state', 'calls', 'last', 'users'],
      usage.map((each) => ({
        ...each,
        tool: each.tool ?? '(none named)',
        last: each.lastAt === null ? '-' : shownTime(each.lastAt),
        users: each.users.length,
      })),
    ),
    ...(unused === 0 ? [] : [`Not called in ${countOf(Number(days), 'day')}: ${countOf(unused, 'tool')}.`]),
    ...deprecated.map(
      (each) =>
        `${nameOf(each)} is deprecated and still called: ${each.users
          .slice(0, 10)
          .map(({ tenant, user, calls }) => `${user ?? 'the server itself'} of ${tenant} (${calls})`)
          .join(', ')}${each.users.length > 10 ? ` and ${each.users.length - 10} more` : ''}.`,
    ),
  ].join('\n')
}

/** `tenant`, `issuer`, `server`, `downstream`, `provider`: the registry is files; these commands read and write them. */
export const addRegistryCommands = (program: Command, terminal: Terminal): void => {
  const home = (): string => findHome(program.opts<{ home?: string }>().home, terminal)

  const snapshot = async (): Promise<Snapshot> => {
    // Loaded here: no other command should pay for the policy engine.
    const { readConfiguration } = await import('#daemon/configuration')
    const { configuration, problems } = await readConfiguration({ home: home(), shipped, generation: 1 })
    if (configuration === undefined)
      throw new CommandError(exit.configuration, problems.map(formatProblem).join('\n'), 'deputy check')
    return configuration.snapshot
  }

  const listing = (
    parent: Command,
    what: string,
    columns: readonly string[],
    read: (current: Snapshot) => readonly object[],
  ): void => {
    parent
      .command('list')
      .description(`list every ${what}`)
      .option('--json', 'print JSON')
      .addHelpText('after', `\nExample:\n  deputy ${what} list --json`)
      .action(async (options: Output) => {
        const rows = read(await snapshot())
        print(terminal, options, rows, () =>
          rows.length === 0 ? `There is no ${what} yet.` : table(columns, rows as Record<string, unknown>[]),
        )
      })
    parent
      .command('show')
      .argument('<id>')
      .description(`show one ${what}`)
      .option('--json', 'print JSON')
      .addHelpText('after', `\nExample:\n  deputy ${what} show NAME`)
      .action(async (id: string, options: Output) => {
        const found = (read(await snapshot()) as Record<string, unknown>[]).find((row) => row[what] === id)
        if (found === undefined)
          throw unknownName(
            what,
            id,
            (read(await snapshot()) as Record<string, unknown>[]).map((row) => String(row[what])),
          )
        print(terminal, options, found, () =>
          Object.entries(found)
            .map(([name, value]) => `${name}: ${typeof value === 'object' ? JSON.stringify(value) : String(value)}`)
            .join('\n'),
        )
      })
  }

  /** A slip in the URL is told now, and not to the first user. */
  const askIssuer = async (url: string): Promise<void> => {
    const { problemOfIssuer } = await import('../issuer-reachability.ts')
    const { network } = await readSettings(home())
    const problem = await withProgress(terminal, 'Asking the issuer', problemOfIssuer(home(), network, { issuer: url }))
    if (problem !== undefined)
      terminal.err(
        `Its tokens cannot be verified yet: ${shownText(problem)}\nNext: compare the URL with what the issuer publishes (\`issuer\` in its metadata, to the letter); network.allow_private and network.hosts in deputy.yaml say how it is reached.\n`,
      )
  }

  const tenant = program.command('tenant').description('tenants: customers, their identity providers, their sign-in')
  addTenantCommands(program, tenant, terminal)
  listing(tenant, 'tenant', ['tenant', 'name', 'enabled', 'issuers'], (current) =>
    [...current.tenants.values()].map((each) => ({ ...each, issuers: each.issuers.map(({ issuer }) => issuer) })),
  )
  tenant
    .command('add')
    .argument('<id>')
    .description('write the file of a new tenant')
    .requiredOption('--issuer <url>', 'its identity provider')
    .option('--client-id <id>', "Deputy's client at the identity provider, for sign-in on the connect pages")
    .option('--client-secret-file <path>', "file (0600) with that client's secret")
    .option('--name <name>')
    .option('--offline', 'do not ask the identity provider whether it is there')
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
        if (options.offline !== true) await askIssuer(issuer)
      },
    )

  const issuer = program.command('issuer').description('issuers whose tokens a tenant trusts')
  issuer
    .command('list')
    .description('list every trusted issuer')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy issuer list')
    .action(async (options: Output) => {
      const rows = [...(await snapshot()).tenants.values()].flatMap((each) =>
        each.issuers.map((trusted) => ({
          tenant: each.tenant,
          ...trusted,
          opaque_tokens: trusted.introspection !== undefined,
        })),
      )
      print(terminal, options, rows, () => table(['tenant', 'issuer', 'algorithms', 'opaque_tokens'], rows))
    })
  issuer
    .command('add')
    .argument('<url>')
    .description('let a tenant trust another issuer')
    .requiredOption('--tenant <id>')
    .option('--offline', 'do not ask the issuer whether it is there')
    .addHelpText('after', '\nExample:\n  deputy issuer add https://login.acme.example --tenant acme')
    .action(async (url: string, options: { tenant: string; offline?: boolean }) => {
      assertUrl('an issuer', url)
      const file = await fileOf('tenants', 'tenant', options.tenant)
      await changeRegistry(home(), terminal, async () => {
        await editDocument(home(), file, 'tenant', options.tenant, (document) => {
          if (document.get('issuers') === undefined) document.set('issuers', [])
          document.addIn(['issuers'], { issuer: url })
        })
        return { file, done: `${options.tenant} trusts ${url} now.` }
      })
      if (options.offline !== true) await askIssuer(url)
    })

  const server = program.command('server').description('registered MCP servers')
  listing(server, 'server', ['server', 'status', 'owner', 'tenants', 'resource', 'version'], (current) => [
    ...current.servers.values(),
  ])
  server
    .command('import')
    .argument('<file>', 'a server.json of the MCP registry')
    .description('register a server as proposed, out of its server.json')
    .requiredOption('--owner <owner>')
    .requiredOption('--tenant <id...>')
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
        return { file: written, done: `${written} is written, status proposed.` }
      })
    })
  server
    .command('export')
    .argument('<id>')
    .description('print a server as a server.json of the MCP registry')
    .option('--namespace <name>', 'reverse-DNS name, for a server that was not listed there before')
    .addHelpText('after', '\nExample:\n  deputy server export notes --namespace com.example > server.json')
    .action(async (id: string, options: { namespace?: string }) => {
      const found = (await snapshot()).servers.get(id)
      if (found === undefined) throw unknownName('server', id, (await snapshot()).servers.keys())
      terminal.out(`${JSON.stringify(exportServerJson(found, options.namespace), null, 2)}\n`)
    })
  server
    .command('usage')
    .description('which tools are used and by whom, which are not, and which are deprecated and still called')
    .option('--days <n>', 'so many days back', '90')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy server usage --days 30')
    .action(async ({ days, ...options }: Output & { days: string }) => {
      const usage = await withProgress(
        terminal,
        'Reading the audit log',
        callDaemon(await adminSocket(home()), { path: `/usage?${new URLSearchParams({ days })}` }, usageSchema),
      )
      print(terminal, options, usage, () => tellUsage(usage, days))
    })
  for (const [verb, status] of Object.entries(STATUSES)) {
    server
      .command(verb)
      .argument('<id>')
      .description(`set a server's status to ${status}`)
      .addHelpText('after', `\nExample:\n  deputy server ${verb} NAME`)
      .action(async (id: string) => {
        const file = await fileOf('servers', 'server', id)
        await changeRegistry(home(), terminal, async () => {
          await editDocument(home(), file, 'server', id, (document) => {
            document.set('status', status)
          })
          return { file, done: `${id} is ${status} now.` }
        })
      })
  }
  server
    .command('secret')
    .description("make a client secret; prints it once, and the hash for the server's file")
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
          `secret, shown this once: ${secret}\nin the server's file:\n  attest:\n    - client_secret:\n        scrypt: "${scrypt}"`,
      )
    })
  server
    .command('unknown')
    .description('callers that no registered server matches')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy server unknown')
    .action(async (options: Output) => {
      const callers = await callDaemon(await adminSocket(home()), { path: '/unknown-callers' }, callersSchema)
      print(terminal, options, callers, () =>
        callers.length === 0
          ? 'No unknown caller so far.'
          : table(
              ['last_seen', 'count', 'claimed', 'uid', 'gid', 'pid', 'exe', 'sha256'],
              callers.map(({ facts, lastSeen, count }) => ({ ...facts, last_seen: shownTime(lastSeen), count })),
            ),
      )
    })

  const downstream = program.command('downstream').description('services that credentials are for')
  listing(
    downstream,
    'downstream',
    ['downstream', 'credential', 'enabled', 'tenants', 'resource', 'provider'],
    (current) => [...current.downstreams.values()],
  )
  const provider = program.command('provider').description('facts about OAuth services')
  listing(provider, 'provider', ['provider', 'name', 'client_authentication', 'pkce', 'revocation'], (current) => [
    ...current.providers.values(),
  ])
  addProviderCommands(program, provider, terminal)

  /** The file in which something of the registry is defined. */
  const fileOf = async (folder: string, key: string, id: string): Promise<string> => {
    const file = (await loadLocations(home(), folder, key, (await readSettings(home())).environment)).get(id)
    if (file === undefined) throw new CommandError(exit.failed, `There is no ${key} ${id}.`, `deputy ${key} list`)
    return file
  }
}
