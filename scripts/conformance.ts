/** `npm run conformance`: runs the MCP conformance suite against servers behind the middleware and the example client, and writes docs/conformance.md. */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { readScenarios, REVISIONS, runRevision, type ScenarioResult } from '../test/support/conformance.ts'

const ROOT = join(import.meta.dirname, '..')
const { version } = z
  .object({ version: z.string() })
  .parse(JSON.parse(await readFile(join(ROOT, 'node_modules/@modelcontextprotocol/conformance/package.json'), 'utf8')))

const results: ScenarioResult[] = []
for (const revision of REVISIONS) {
  for (const result of await runRevision(revision)) {
    results.push(result)
    process.stdout.write(
      `${result.failures.length === 0 ? 'passed' : 'FAILED'}  ${revision}  ${result.scenario}  ${result.failures.join('; ')}\n`,
    )
  }
}

const failed = results.filter(({ failures }) => failures.length > 0)
const notRun = Object.entries(await readScenarios()).flatMap(([kind, entries]) =>
  entries.flatMap(({ scenarios, not_run: reason }) =>
    reason === undefined ? [] : [`| ${kind} | ${scenarios.map((name) => `\`${name}\``).join(', ')} | ${reason} |`],
  ),
)

await writeFile(
  join(ROOT, 'docs/conformance.md'),
  `# MCP conformance

\`npm run conformance\` runs the scenarios of \`@modelcontextprotocol/conformance\` ${version} that apply against servers behind the
[middleware](get-started/mcp-server-author.md), with a real daemon and a real issuer, and writes this page. The server for revision 2026-07-28 stands on
\`@modelcontextprotocol/server\`, the one for 2025-11-25 on \`@modelcontextprotocol/sdk\`. The suite sends no tokens: a forwarder puts one into each request
and changes nothing else. The state of the \`input-required\` scenarios is signed and checked by the middleware, \`Host\` and \`Origin\` are checked by it, and every message passes through it. \`auth/*\` are run against
[examples/mcp-client.ts](../examples/mcp-client.ts), which signs in with the SDK's code. \`authorization-*\` are run against Deputy as the [authorization server](sign-in.md): the suite is a client that has
registered itself, and a user signs in and consents. They are the same for every revision.

${results.length - failed.length} of ${results.length} runs pass.

| Scenario | Revision | Checks | |
| --- | --- | --- | --- |
${results.map(({ scenario, revision, passed, failures }) => `| \`${scenario}\` | ${revision} | ${passed} of ${passed + failures.length} | ${failures.length === 0 ? 'passed' : `failed: ${failures.join('; ').replaceAll('|', '\\|')}`} |`).join('\n')}

## Not run

| Kind | Scenarios | Why |
| --- | --- | --- |
${notRun.join('\n')}
`,
)
process.stdout.write(`${results.length - failed.length} passed, ${failed.length} failed\n`)
process.exitCode = failed.length === 0 ? 0 : 1
