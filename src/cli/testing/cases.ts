/** The file of `deputy test`: users, and calls with their expected outcomes. */
import { z } from 'zod'
import { durationSchema, idSchema, urlSchema } from '#config'

const tokenSchema = z.union([
  z.strictObject({ env: z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/) }),
  z.strictObject({ file: z.string().min(1) }),
])

const userSchema = z.strictObject({
  tenant: idSchema.optional().describe('The tenant; default: the only one of the server.'),
  groups: z.array(z.string()).default([]).describe('Groups, with --simulate.'),
  claims: z.record(z.string(), z.unknown()).default({}).describe('Claims of the token, with --simulate.'),
  scopes: z.array(z.string()).default([]).describe("Scopes of the user's own token, with --simulate."),
  token: tokenSchema.optional().describe("Where the user's access token for the server is, without --simulate."),
})

const faultSchema = z
  .strictObject({
    status: z.int().min(400).max(599).optional().describe('Status of the answer.'),
    times: z.int().min(1).max(100).default(1).describe('Number of requests that it concerns.'),
    latency: durationSchema.optional().describe('Time until the answer.'),
    retry_after: z.int().min(0).optional().describe('`Retry-After` of the answer, in seconds.'),
    half: z.boolean().default(false).describe('True: the connection ends in the middle of the answer.'),
  })
  .describe('A fault of the simulated API.')
export type Fault = z.output<typeof faultSchema>

const expectSchema = z.strictObject({
  outcome: z
    .enum(['answer', 'error', 'refused', 'hidden'])
    .optional()
    .describe(
      'answer: a result. error: the tool failed, such as by a status of the API. refused: Deputy refused the call. hidden: policy hides the tool from the user.',
    ),
  reason: z.string().optional().describe('Code of the refusal, such as `scope_not_available`; with --simulate.'),
  schema: z.record(z.string(), z.unknown()).optional().describe('JSON Schema of the structured content.'),
  at: z.record(z.string(), z.json()).optional().describe('Values of the structured content by JSON pointer.'),
  text: z.string().max(500).optional().describe('A part of the text.'),
  requests: z.int().min(0).optional().describe('Number of requests that reach the API; with --simulate.'),
  asked: z.boolean().optional().describe('Whether the user is asked to connect a service.'),
  tools: z.array(z.string()).optional().describe('The tools that the user sees; all of them, in any order.'),
})
export type Expectation = z.output<typeof expectSchema>

const caseSchema = z.strictObject({
  name: z.string().min(1).max(300),
  user: z.string().min(1).describe('A user of this file.'),
  tool: z.string().min(1).optional().describe('The tool that is called; absent: only `tools` is compared.'),
  arguments: z.record(z.string(), z.unknown()).default({}),
  elicitation: z.enum(['accept', 'decline']).default('decline').describe('The answer to a question to the user.'),
  fault: faultSchema.optional(),
  expect: expectSchema,
})
export type TestCase = z.output<typeof caseSchema>

export const testFileSchema = z
  .strictObject({
    server: idSchema
      .optional()
      .describe('A server of this configuration whose tools are tested; needed with --simulate.'),
    url: urlSchema.optional().describe('URL of an MCP server over HTTP; default: the resource of `server`.'),
    command: z
      .array(z.string().min(1))
      .min(1)
      .optional()
      .describe('An MCP server over stdio: the program and its arguments.'),
    users: z.record(z.string().min(1), userSchema).default({}),
    cases: z.array(caseSchema).min(1),
  })
  .refine(
    ({ server, url, command }) => server !== undefined || url !== undefined || command !== undefined,
    'name `server`, `url` or `command`',
  )
  .superRefine(({ users, cases }, context) => {
    for (const [at, { user }] of cases.entries())
      if (!Object.hasOwn(users, user))
        context.addIssue({
          code: 'custom',
          path: ['cases', at, 'user'],
          message: `there is no user ${user} in this file`,
        })
  })
export type TestFile = z.output<typeof testFileSchema>
export type TestUser = TestFile['users'][string]
