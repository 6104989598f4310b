import { readFile } from 'node:fs/promises'
import { spawn } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { z } from 'zod'
import { formatProblem } from '#config'
import { NO_TEXT, secretText } from '#foundation/crypto'
import { adminSocket, findHome, localSocket, shipped } from '../home.ts'
import { callDaemon } from '../socket-client.ts'
import { CommandError, exit, print, table, withProgress, shownTime, type Terminal } from '../terminal.ts'
import { takesName } from '../name-argument.ts'
import { countOf } from '../words.ts'

interface Output {
  json?: boolean
}

const statusSchema = z.looseObject({
  version: z.string(),
  pid: z.number(),
  ready: z.boolean(),
  environment: z.string(),
  generation: z.number(),
  started_at: z.string(),
  checks: z.record(z.string(), z.string()),
  counts: z.record(z.string(), z.number()),
  memory: z.looseObject({ rss: z.number() }),
  node: z.looseObject({ node: z.string() }),
  nodes: z.array(z.looseObject({ id: z.string(), about: z.string(), leaseLeft: z.number(), acknowledged: z.number() })),
  providers: z.array(
    z.looseObject({ provider: z.string(), tenant: z.string(), state: z.string(), until: z.number().nullable() }),
  ),
  durability: z.looseObject({ sentence: z.string() }).nullish(),
  proxy: z.array(z.string()),
  upstream_revocations: z.looseObject({ queued: z.number(), irrevocable: z.number() }).nullable(),
})
const reloadSchema = z.looseObject({
  applied: z.boolean(),
  generation: z.number(),
  problems: z.array(z.object({ file: z.string(), line: z.number(), message: z.string(), fix: z.string() })),
  restart_needed: z.array(z.string()),
})
const rotatedSchema = z.looseObject({
  keys: z.string(),
  rewrapped: z.number().optional(),
  kid: z.string().optional(),
  kek: z.string().optional(),
})
const decisionSchema = z.looseObject({
  allowed: z.boolean(),
  registered: z.array(z.string()),
  scopes: z.array(z.string()),
  policies: z.array(z.string()),
  errors: z.array(z.string()),
  credential: z.string(),
  note: z.string().optional(),
})
const writtenSchema = z.looseObject({ tenant: z.string(), name: z.string(), version: z.number() })
const removedSchema = z.looseObject({ removed: z.number() })
const secretsSchema = z.array(
  z.looseObject({
    tenant: z.string(),
    name: z.string(),
    version: z.number(),
    stage: z.string().nullable(),
    createdAt: z.number(),
  }),
)
const loginSchema = z.looseObject({ url: z.string() })
const sessionSchema = z.looseObject({
  signed_in: z.boolean(),
  tenant: z.string().optional(),
  user: z.string().optional(),
  expires_at: z.number().optional(),
})

const LOGIN_PATIENCE = 300_000
const LOGIN_POLL = 1000

/** Opens a browser without a shell, for http(s) URLs alone (threat 5). Where there is none, the printed URL is enough. */
const openBrowser = (url: string): void => {
  const { protocol } = new URL(url)
  if (protocol !== 'https:' && protocol !== 'http:') return
  const child = spawn('xdg-open', [url], { stdio: 'ignore', detached: true, shell: false })
  child.on('error', () => {
    /* no browser on this machine */
  })
  child.unref()
}

/** `status`, `reload`, `key`, `policy`, `secret`, `login`, `logout`. */
export const addOperationCommands = (program: Command, terminal: Terminal): void => {
  const home = (): string => findHome(program.opts<{ home?: string }>().home, terminal)
  const socket = (): Promise<string> => adminSocket(home())

  program
    .command('status')
    .description('how the daemon is')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy status --json')
    .action(async (options: Output) => {
      const status = await callDaemon(await socket(), { path: '/status' }, statusSchema)
      print(terminal, options, status, () =>
        [
          `deputy ${status.version}, process ${status.pid}, ${status.environment}, since ${status.started_at}: ${status.ready ? 'ready' : 'not ready'}`,
          ...Object.entries(status.checks).map(([name, state]) => `  ${name}: ${state}`),
          `  configuration ${status.generation}: ${Object.entries(status.counts)
            .map(([name, count]) => `${count} ${name}`)
            .join(', ')}`,
          ...(status.proxy.length === 0 ? [] : [`  proxy: ${status.proxy.join(', ')}`]),
          ...(status.durability === null || status.durability === undefined
            ? []
            : [`  durability: ${status.durability.sentence}`]),
          ...status.nodes.map(
            ({ id, about, leaseLeft, acknowledged }) =>
              `  node ${about}${about === status.node.node ? ' (this one)' : ''}: ${leaseLeft > 0 ? `lease for ${leaseLeft} ms` : 'no lease'}, knows revocations up to ${acknowledged} (${id})`,
          ),
          ...status.providers.map(
            ({ provider, tenant, state, until }) =>
              `  provider ${provider} for ${tenant}: ${state.replaceAll('_', ' ')}${until === null ? '' : ` until ${shownTime(until)}`}`,
          ),
          ...(status.upstream_revocations === null ||
          status.upstream_revocations.irrevocable + status.upstream_revocations.queued === 0
            ? []
            : [
                `  providers to be told of revocations: ${status.upstream_revocations.queued} queued, ${status.upstream_revocations.irrevocable} given up (deputy grant pending)`,
              ]),
          `  memory: ${Math.round(status.memory.rss / 1_048_576)} MiB`,
        ].join('\n'),
      )
      const { configuration = 'ok', secret_files: files = 'ok', history = 'ok' } = status.checks
      if (!status.ready || history !== 'ok') throw new CommandError(exit.failed, '')
      if (configuration !== 'ok' || files !== 'ok') throw new CommandError(exit.configuration, '')
    })

  program
    .command('reload')
    .description('read the configuration again, whole or not at all')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy reload')
    .action(async (options: Output) => {
      const result = await callDaemon(await socket(), { path: '/reload', method: 'POST' }, reloadSchema)
      print(terminal, options, result, () =>
        result.applied
          ? `Configuration ${result.generation} is in force.${result.restart_needed.length === 0 ? '' : ` After a restart also: ${result.restart_needed.join(', ')}.`}`
          : `${result.problems.map(formatProblem).join('\n')}\nNothing was changed.`,
      )
      if (!result.applied) throw new CommandError(exit.configuration, '')
    })

  const key = program.command('key').description('keys')
  key
    .command('rotate')
    .description('a new key-encryption key, every data key wrapped anew; with --signing a new signing key')
    .option('--signing')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy key rotate')
    .action(async (options: Output & { signing?: boolean }) => {
      const result = await withProgress(
        terminal,
        'Wrapping the data keys anew',
        callDaemon(
          await socket(),
          { path: '/keys/rotate', json: { keys: options.signing === true ? 'signing' : 'key-encryption' } },
          rotatedSchema,
        ),
      )
      print(terminal, options, result, () =>
        options.signing === true
          ? `Tokens are signed by ${result.kid} now; the key before stays published until its last token has expired.`
          : `The key-encryption key is ${result.kek} now; ${countOf(result.rewrapped ?? 0, 'data key')} wrapped anew.`,
      )
    })

  const policy = program.command('policy').description('access policy')
  policy
    .command('test')
    .description('run the examples beside the policies')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy policy test')
    .action(async (options: Output) => {
      // Loaded here: no other command should pay for the policy engine.
      const [{ accessPolicies, readConfiguration }, { runPolicyExamples }] = await Promise.all([
        import('#daemon/configuration'),
        import('#identity/policy'),
      ])
      const read = await readConfiguration({ home: home(), shipped, generation: 1 })
      if (read.configuration === undefined)
        throw new CommandError(exit.configuration, read.problems.map(formatProblem).join('\n'))
      const { results, problems } = await runPolicyExamples(
        accessPolicies(read.configuration.snapshot),
        read.configuration.policy,
      )
      const failed = results.filter(({ passed }) => !passed)
      print(terminal, options, { results, problems }, () =>
        [
          ...problems.map(formatProblem),
          ...results.map(
            ({ passed, file, line, name, why }) =>
              `${passed ? 'ok  ' : 'FAIL'} ${name}: ${why}${passed ? '' : ` (${file}:${line})`}`,
          ),
          `${results.length - failed.length} passed, ${failed.length} failed`,
        ].join('\n'),
      )
      if (failed.length > 0 || problems.length > 0) throw new CommandError(exit.failed, '')
    })
  policy
    .command('explain')
    .description('what policy would say, without issuing anything')
    .requiredOption('--server <id>')
    .requiredOption('--tenant <id>')
    .option('--user <name>', 'absent: the server for itself')
    .option('--group <name...>', 'groups of the user', [])
    .requiredOption('--downstream <id>')
    .option('--scope <scope...>')
    .option('--tool <name>')
    .option('--acr <acr>')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExample:\n  deputy policy explain --server notes --tenant acme --user alice --group engineering --downstream notes-api --scope notes:read',
    )
    .action(
      async ({
        json,
        group,
        scope,
        ...question
      }: Output & {
        server: string
        tenant: string
        user?: string
        group: string[]
        downstream: string
        scope?: string[]
        tool?: string
        acr?: string
      }) => {
        const decision = await callDaemon(
          await socket(),
          {
            path: '/policy/explain',
            json: { ...question, groups: group, ...(scope === undefined ? {} : { scopes: scope }) },
          },
          decisionSchema,
        )
        print(terminal, { json: json === true }, decision, () =>
          [
            `${decision.allowed ? 'allowed' : 'denied'}: ${decision.credential} with ${decision.scopes.join(' ') || 'no scopes'} (registered: ${decision.registered.join(' ') || 'none'})`,
            decision.policies.length === 0 ? '  no policy permits it' : `  decided by ${decision.policies.join(', ')}`,
            ...decision.errors.map((error) => `  error: ${error}`),
            ...(decision.note === undefined ? [] : [`  ${decision.note}`]),
          ].join('\n'),
        )
        if (!decision.allowed) throw new CommandError(exit.failed, '')
      },
    )

  const secret = program.command('secret').description('secrets in the embedded backend')
  takesName(secret.command('set'), 'name', 'name of the secret')
    .description(
      "store a new version of a tenant's secret; the value is read from standard input or a file, never from the command line",
    )
    .requiredOption('--tenant <id>')
    .option('--file <path>')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy secret set github-key --tenant acme < key.txt')
    .action(async (_name: string | undefined, options: Output & { tenant: string; name: string; file?: string }) => {
      const bytes =
        options.file === undefined
          ? await terminal.input()
          : await readFile(resolve(terminal.workingFolder, options.file))
      const value = secretText(bytes)
      if (value === undefined) throw new CommandError(exit.usage, `The value was not stored: ${NO_TEXT}.`)
      if (value === '') throw new CommandError(exit.usage, 'There was no value on standard input.')
      const written = await callDaemon(
        await socket(),
        { path: '/secrets', json: { tenant: options.tenant, name: options.name, value } },
        writtenSchema,
      )
      print(
        terminal,
        options,
        written,
        () => `${written.name} of ${written.tenant} has version ${written.version} now.`,
      )
    })
  secret
    .command('list')
    .description('list secrets, never their values')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy secret list')
    .action(async (options: Output) => {
      const secrets = await callDaemon(await socket(), { path: '/secrets' }, secretsSchema)
      print(terminal, options, secrets, () =>
        secrets.length === 0
          ? 'There is no secret yet.'
          : table(
              ['tenant', 'name', 'version', 'stage', 'created'],
              secrets.map((each) => ({ ...each, created: shownTime(each.createdAt) })),
            ),
      )
    })
  takesName(secret.command('remove'), 'name', 'name of the secret')
    .description('remove every version of a secret')
    .requiredOption('--tenant <id>')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy secret remove github-key --tenant acme')
    .action(async (_name: string | undefined, options: Output & { tenant: string; name: string }) => {
      const { removed } = await callDaemon(
        await socket(),
        { path: '/secrets/remove', json: { tenant: options.tenant, name: options.name } },
        removedSchema,
      )
      print(terminal, options, { removed }, () => `Removed ${countOf(removed, 'version')}.`)
    })

  program
    .command('login')
    .description("sign in as a tenant's user: stdio servers of this Unix user may then act for that user")
    .requiredOption('--tenant <id>')
    .option('--no-browser', 'only print the URL')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy login --tenant acme')
    .action(async (options: Output & { tenant: string; browser: boolean }) => {
      const path = await localSocket(home(), terminal)
      const { url } = await callDaemon(path, { path: '/session', form: { tenant: options.tenant } }, loginSchema)
      terminal.err(`Open this page and sign in:\n  ${url}\n`)
      if (options.browser && terminal.isInteractive) openBrowser(url)
      for (const until = Date.now() + LOGIN_PATIENCE; Date.now() < until; await sleep(LOGIN_POLL)) {
        const session = await callDaemon(path, { path: '/session' }, sessionSchema)
        if (!session.signed_in || session.tenant !== options.tenant) continue
        print(
          terminal,
          options,
          session,
          () => `Signed in as ${session.user} of ${session.tenant} until ${shownTime(session.expires_at ?? 0)}.`,
        )
        return
      }
      throw new CommandError(
        exit.failed,
        'The user did not sign in within five minutes.',
        `deputy login --tenant ${options.tenant}`,
      )
    })
  program
    .command('logout')
    .description('end the session of this Unix user')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy logout')
    .action(async (options: Output) => {
      const session = await callDaemon(
        await localSocket(home(), terminal),
        { path: '/session', method: 'DELETE' },
        sessionSchema,
      )
      print(terminal, options, session, () => 'Signed out.')
    })
}
