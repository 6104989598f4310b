import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { credentialKindSchema, parseYamlFile, type Problem } from '#config'
import { type OperationFacts, type Policy, type PolicyQuestion, SIGN_IN } from './decision.ts'

const exampleSchema = z.strictObject({
  name: z.string().min(1),
  tenant: z.string().default('acme'),
  user: z.string().optional().describe('Absent: the server asks for itself.'),
  agent: z.string().optional().describe('In place of a user: the id of an agent.'),
  groups: z.array(z.string()).default([]),
  claims: z.record(z.string(), z.unknown()).default({}),
  server: z.string(),
  owner: z.string().default('owner@example.com'),
  team: z.string().optional(),
  status: z.enum(['approved', 'deprecated']).default('approved'),
  downstream: z.string().optional().describe('Of sign_in there is none.'),
  credential: credentialKindSchema.or(z.literal(SIGN_IN)),
  client: z.strictObject({ id: z.string(), known: z.enum(['file', 'document', 'registered']) }).optional(),
  narrows: z.array(z.string()).default([]).describe('What of the credential can be narrowed.'),
  scopes: z.array(z.string()).default([]),
  tool: z.string().optional(),
  operation: z
    .strictObject({
      api: z.string(),
      method: z.string(),
      path: z.string(),
      read_only: z.boolean().default(false),
      destructive: z.boolean().default(false),
      idempotent: z.boolean().default(false),
    })
    .optional()
    .describe('The operation of an API that the tool is.'),
  environment: z.string().default('production'),
  acr: z.string().optional(),
  time: z.iso.datetime().default('2026-01-05T10:00:00Z'),
  expect: z.enum(['allow', 'deny']),
  expect_scopes: z.array(z.string()).optional().describe('The scopes that are left; default: all of them.'),
  expect_policies: z.array(z.string()).optional(),
})
const exampleFileSchema = z.strictObject({ examples: z.array(exampleSchema).min(1) })

/** One example of a `*.test.yaml` in the folder of the policies, and whether policy decides as the example expects. */
export interface ExampleResult {
  readonly file: string
  readonly line: number
  readonly name: string
  readonly passed: boolean
  readonly why: string
}

const principalOf = ({
  tenant,
  user,
  agent,
  owner,
  groups,
  claims,
}: z.output<typeof exampleSchema>): PolicyQuestion['principal'] => {
  if (user !== undefined) return { kind: 'user', tenant, user, groups, claims }
  return agent === undefined ? { kind: 'workload', tenant } : { kind: 'agent', tenant, agent, owner }
}

const operationOf = ({
  read_only: readOnly,
  ...facts
}: NonNullable<z.output<typeof exampleSchema>['operation']>): OperationFacts => ({ ...facts, readOnly })

const toQuestion = (example: z.output<typeof exampleSchema>): PolicyQuestion => {
  const { tenant } = example
  return {
    principal: principalOf(example),
    action: example.credential,
    downstream: { id: example.downstream ?? example.server },
    tenant,
    scopes: example.scopes.toSorted(),
    server: {
      id: example.server,
      owner: example.owner,
      status: example.status,
      ...(example.team === undefined ? {} : { team: example.team }),
    },
    environment: example.environment,
    narrows: example.narrows,
    now: Date.parse(example.time),
    ...(example.tool === undefined ? {} : { tool: example.tool }),
    ...(example.operation === undefined ? {} : { operation: operationOf(example.operation) }),
    ...(example.acr === undefined ? {} : { acr: example.acr }),
    ...(example.client === undefined ? {} : { client: example.client }),
  }
}

const judge = (example: z.output<typeof exampleSchema>, policy: Policy): { passed: boolean; why: string } => {
  const decision = policy.decide(toQuestion(example))
  const verdict = decision.allowed ? 'allow' : 'deny'
  const by = decision.policies.length === 0 ? 'no policy' : decision.policies.join(', ')
  if (verdict !== example.expect)
    return {
      passed: false,
      why: `expected ${example.expect}, but ${decision.policies.length === 0 ? 'no policy permits it, so it is denied' : `${by} decided ${verdict}`}${decision.errors.length === 0 ? '' : ` (${decision.errors.join('; ')})`}`,
    }
  const scopes = (example.expect_scopes ?? (decision.allowed ? example.scopes : [])).toSorted().join(' ')
  if (decision.allowed && decision.scopes.toSorted().join(' ') !== scopes)
    return { passed: false, why: `expected the scopes "${scopes}", but "${decision.scopes.join(' ')}" are left` }
  if (example.expect_policies !== undefined && example.expect_policies.toSorted().join() !== decision.policies.join())
    return { passed: false, why: `expected ${example.expect_policies.join(', ')} to decide, but ${by} did` }
  return { passed: true, why: `${verdict} by ${by}` }
}

/** Runs every `*.test.yaml` of the policies' folder. */
export const runPolicyExamples = async (
  folder: string,
  policy: Policy,
): Promise<{ results: ExampleResult[]; problems: Problem[] }> => {
  const results: ExampleResult[] = []
  const problems: Problem[] = []
  for (const name of (await readdir(folder)).filter((each) => each.endsWith('.test.yaml')).sort()) {
    const file = `policies/access/${name}`
    const text = await readFile(join(folder, name), 'utf8')
    // `deputy init` writes its examples as comments.
    if (text.split('\n').every((line) => /^\s*(#|$)/.test(line))) continue
    const parsed = parseYamlFile(file, text, exampleFileSchema)
    problems.push(...parsed.problems)
    for (const { value, lineOf } of parsed.values) {
      value.examples.forEach((example, at) => {
        results.push({ file, line: lineOf(['examples', at]), name: example.name, ...judge(example, policy) })
      })
    }
  }
  return { results, problems }
}
