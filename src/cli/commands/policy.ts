import type { Command } from 'commander'
import { z } from 'zod'
import { formatProblem } from '#config'
import type { PolicyQuestion } from '#listeners/admin-api'
import type { CommandContext } from '../context.ts'
import { readFiles } from '../home.ts'
import { callDaemon } from '../socket-client.ts'
import { CommandError, exit, print } from '../terminal.ts'

interface Output {
  json?: boolean
}

const decisionSchema = z.looseObject({
  allowed: z.boolean(),
  registered: z.array(z.string()),
  scopes: z.array(z.string()),
  policies: z.array(z.string()),
  errors: z.array(z.string()),
  credential: z.string(),
  note: z.string().optional(),
})

/** `policy test`. */
const addPolicyTest = (policy: Command, { terminal, home }: CommandContext): void => {
  policy
    .command('test')
    .description('run the examples that are in the folders of the policies')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy policy test')
    .action(async (options: Output) => {
      // Loaded here: no other command should pay for the policy engine.
      const [{ accessPolicies }, { runPolicyExamples }] = await Promise.all([
        import('#daemon/configuration'),
        import('#identity/policy'),
      ])
      const { snapshot, policy: access } = await readFiles(home())
      const { results, problems } = await runPolicyExamples(accessPolicies(snapshot), access)
      const failed = results.filter(({ passed }) => !passed)
      print(terminal, options, { results, problems }, () =>
        [
          ...problems.map(formatProblem),
          ...results.map(
            ({ passed, file, line, name, why }) =>
              `${passed ? 'ok  ' : 'FAIL'} ${name}: ${why}${passed ? '' : ` (${file}:${line})`}`,
          ),
          ...(results.length === 0 && problems.length === 0
            ? ['There are no examples: write them in policies/access/*.test.yaml (docs/policy.md).']
            : []),
          `${results.length - failed.length} passed, ${failed.length} failed`,
        ].join('\n'),
      )
      if (failed.length > 0 || problems.length > 0) throw new CommandError(exit.failed, '')
    })
}

/** `policy explain`. */
const addPolicyExplain = (policy: Command, { terminal, socket }: CommandContext): void => {
  policy
    .command('explain')
    .description('evaluate policy for a request, without issuing anything')
    .requiredOption('--server <id>', 'the server that calls')
    .requiredOption('--tenant <id>', 'the tenant of the user')
    .option('--user <name>', 'the user; default: the server on its own behalf')
    .option('--agent <id>', 'in place of a user: the agent (a file in clients/)')
    .option('--group <name...>', 'groups of the user', [])
    .option('--downstream <id>', 'the downstream, by id or resource URI')
    .option('--sign-in', 'in place of a downstream: whether the user may sign in at --client for the server')
    .option('--scope <scope...>', 'requested scopes; default: all that the server is registered for')
    .option('--tool <name>', 'the MCP tool that is called')
    .option('--acr <acr>', 'authentication context of the user (acr claim)')
    .option('--client <id>', 'the MCP client that the user has signed in at')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  deputy policy explain --server notes --tenant acme --user alice --group engineering --downstream notes-api --scope notes:read\n  deputy policy explain --sign-in --server notes --tenant acme --user alice --client https://claude.ai/oauth/client.json',
    )
    .action(
      async ({
        json,
        group,
        scope,
        signIn,
        ...question
      }: Output & {
        server: string
        tenant: string
        user?: string
        agent?: string
        group: string[]
        downstream?: string
        signIn?: boolean
        scope?: string[]
        tool?: string
        acr?: string
        client?: string
      }) => {
        if ((question.downstream === undefined) === (signIn !== true))
          throw new CommandError(
            exit.usage,
            'The question is either about a downstream or about a sign-in.',
            'Add --downstream ID for a credential, or --sign-in --client ID for a sign-in.',
          )
        const decision = await callDaemon(
          await socket(),
          {
            path: '/policy/explain',
            json: {
              ...question,
              groups: group,
              ...(signIn === true ? { sign_in: true } : {}),
              ...(scope === undefined ? {} : { scopes: scope }),
            } satisfies PolicyQuestion,
          },
          decisionSchema,
        )
        print(terminal, { json: json === true }, decision, () =>
          [
            `${decision.allowed ? 'allowed' : 'denied'}: ${decision.credential} with ${decision.scopes.join(' ') || 'no scopes'} (registered: ${decision.registered.join(' ') || 'none'})`,
            decision.policies.length === 0
              ? decision.credential === 'sign_in'
                ? '  no policy forbids it'
                : '  no policy permits it'
              : `  decided by ${decision.policies.join(', ')}`,
            ...decision.errors.map((error) => `  error: ${error}`),
            ...(decision.note === undefined ? [] : [`  ${decision.note}`]),
          ].join('\n'),
        )
        if (!decision.allowed) throw new CommandError(exit.failed, '')
      },
    )
}

/** `policy test|explain`. */
export const addPolicyCommands = (program: Command, context: CommandContext): void => {
  const policy = program.command('policy').description('access policy')
  addPolicyTest(policy, context)
  addPolicyExplain(policy, context)
}
