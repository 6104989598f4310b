import { z } from 'zod'
import { readTextFiles } from './folder.ts'
import { formatProblem, type Problem } from './problem.ts'
import { idSchema, scopeSchema, urlSchema } from './values.ts'
import { parseYamlFile } from './yaml-file.ts'

/** Facts of a known server that need the page they were taken from. */
const STATED = ['mcp', 'authorization_server', 'registration', 'scopes', 'notes'] as const

/** `providers/mcp/<name>.yaml`: what the documentation of a remote MCP server states, each with its source. */
export const knownServerSchema = z
  .strictObject({
    known: idSchema.describe('The name for `deputy downstream add --known`.'),
    name: z.string().min(1).describe('Name on the consent page.'),
    mcp: urlSchema.refine((url) => url.startsWith('https:'), 'write an https URL').describe('URL of the MCP server.'),
    authorization_server: urlSchema
      .optional()
      .describe('Issuer of its authorization server; another one in its metadata is refused.'),
    registration: z
      .enum(['document', 'dynamic', 'manual'])
      .optional()
      .describe(
        'How a client becomes known, as documented. document: by a metadata document at its id. dynamic: it registers itself (RFC 7591). manual: its operator, or a user in its settings, registers it. Absent: not documented; its metadata decides.',
      ),
    scopes: z
      .record(scopeSchema, z.string())
      .default({})
      .describe('Its scopes, with a description for the consent page.'),
    notes: z.array(z.string().min(1)).default([]).describe('What an admin has to know; printed by the command.'),
    sources: z.partialRecord(z.enum(STATED), urlSchema).describe('The page of each fact.'),
  })
  .superRefine((server, context) => {
    for (const fact of STATED) {
      const value = server[fact]
      const isStated = value !== undefined && (typeof value === 'string' || Object.keys(value).length > 0)
      if (isStated && server.sources[fact] === undefined)
        context.addIssue({ code: 'custom', path: ['sources'], message: `the source of ${fact} is missing` })
    }
  })
export type KnownServer = z.output<typeof knownServerSchema>

/** The known servers that come with Deputy, by name. @throws Error when a file is wrong, which a test excludes */
export const readKnownServers = async (folder: string): Promise<Map<string, KnownServer>> => {
  const problems: Problem[] = []
  const files = await readTextFiles(
    { folder, shownAs: 'providers/mcp', isWanted: (name) => name.endsWith('.yaml') },
    problems,
  )
  const servers = files.flatMap(({ file, text }) => {
    const parsed = parseYamlFile(file, text, knownServerSchema)
    problems.push(...parsed.problems)
    return parsed.values.map(({ value }) => value)
  })
  if (problems.length > 0) throw new Error(problems.map(formatProblem).join('\n'))
  return new Map(servers.map((server) => [server.known, server]))
}
