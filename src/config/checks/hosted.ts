/** Servers that Deputy hosts: the APIs that they name, and what their tools need of the server. */
import { ownValue } from '#foundation/text'
import { isHosted, type NamedTool, namedTools } from '../hosted-tools.ts'
import type { Loaded } from '../loaded.ts'
import type { Problem } from '../problem.ts'
import type { Server } from '../server.ts'
import type { Located } from '../yaml-file.ts'
import { correction, list, problemsOf } from './names.ts'

/** Longer names are refused by MCP clients. */
const MAX_NAME = 64
/** Problems of one kind that many tools share are listed for the first of them. */
const MAX_LISTED = 20

/** What only the program of a server could use: Deputy is the program. */
const checkProgram = (located: Located<Server>, { settings }: Loaded): Problem[] => {
  const { value } = located
  const problem = problemsOf(located)
  const problems: Problem[] = []
  if (value.attest.length > 0)
    problems.push(
      problem(
        ['attest'],
        `Deputy itself is the server ${value.server}, so no other program may prove to be it.`,
        'Remove `attest`, or register the other program as a server of its own.',
      ),
    )
  if (!/^https?:/.test(value.resource))
    problems.push(
      problem(
        ['resource'],
        `${value.resource} is not the URL of an MCP endpoint.`,
        'Write an https URL that leads to listen.mcp.',
      ),
    )
  if (settings.value.listen.mcp === null && !value.login_session)
    problems.push(
      problem(
        ['apis'],
        `No client can reach the tools of ${value.server}.`,
        'Set listen.mcp in deputy.yaml for clients over HTTP, or `login_session: true` here for `deputy mcp`.',
      ),
    )
  return problems
}

const checkNames = (located: Located<Server>, tools: readonly NamedTool[]): Problem[] => {
  const problem = problemsOf(located)
  const known = new Map<string, NamedTool>()
  const problems = tools.flatMap((each) => {
    const twin = known.get(each.name)
    known.set(each.name, each)
    if (twin !== undefined)
      return [
        problem(
          ['apis', each.at],
          `The tool ${each.name} exists twice, in ${located.value.apis[twin.at]!.api} and in ${located.value.apis[each.at]!.api}.`,
          'Give one of the two APIs a prefix.',
        ),
      ]
    return each.name.length <= MAX_NAME
      ? []
      : [
          problem(
            ['apis', each.at],
            `The name ${each.name} is longer than ${MAX_NAME} characters.`,
            'Write a shorter prefix.',
          ),
        ]
  })
  const unknown = Object.keys(located.value.tools).filter((name) => !known.has(name))
  return [
    ...problems.slice(0, MAX_LISTED),
    ...unknown.map((name) =>
      problem(
        ['tools', name],
        `None of the APIs of ${located.value.server} has a tool ${name}.`,
        known.size > 50
          ? `Run: deputy api tools ${located.value.apis[0]!.api}`
          : correction(name, 'Their tools', known.keys()),
      ),
    ),
  ]
}

/** The server is registered for what its tools need. */
const checkScopes = (
  located: Located<Server>,
  tools: readonly NamedTool[],
  { compiled, downstreams }: Loaded,
): Problem[] => {
  const problem = problemsOf(located)
  const { value } = located
  const downstreamAt = (at: number): string | undefined => compiled.get(value.apis[at]!.api)?.api.downstream
  const missing = new Set(
    value.apis.flatMap((_, at) => {
      const id = downstreamAt(at)
      // A downstream that does not exist is a problem of the API's file alone.
      return id === undefined || !downstreams.has(id) || Object.hasOwn(value.downstreams, id) ? [] : [id]
    }),
  )
  const scopes = new Map<string, Set<string>>()
  for (const { at, tool } of tools) {
    const id = downstreamAt(at)
    const registered = id === undefined ? undefined : ownValue(value.downstreams, id)
    if (id === undefined || registered === undefined) continue
    for (const scope of tool.scopes)
      if (!registered.scopes.includes(scope)) scopes.set(id, (scopes.get(id) ?? new Set()).add(scope))
  }
  return [
    ...[...missing].map((id) =>
      problem(
        ['downstreams'],
        `Tools of ${value.server} use ${id}, for which the server is not registered.`,
        `Add ${id} to \`downstreams\` of this server.`,
      ),
    ),
    ...[...scopes].map(([id, needed]) =>
      problem(
        ['downstreams', id, 'scopes'],
        `Tools of ${value.server} need scopes of ${id} for which the server is not registered: ${list(needed)}.`,
        `Add them to downstreams.${id}.scopes, or leave the tools out of the API's file.`,
      ),
    ),
  ]
}

/** Every server whose file names APIs. */
export const checkHosted = (loaded: Loaded): Problem[] =>
  [...loaded.servers.values()].flatMap((located) => {
    const { value } = located
    if (!isHosted(value)) return []
    const problem = problemsOf(located)
    const unknown = value.apis.flatMap(({ api }, at) =>
      loaded.apis.has(api)
        ? []
        : [problem(['apis', at, 'api'], `There is no API ${api}.`, correction(api, 'Known APIs', loaded.apis.keys()))],
    )
    const tools = namedTools(value, loaded.compiled)
    return [
      ...unknown,
      ...checkProgram(located, loaded),
      ...(unknown.length > 0 ? [] : checkNames(located, tools)),
      ...checkScopes(located, tools, loaded),
    ]
  })
