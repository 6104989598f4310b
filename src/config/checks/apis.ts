import { didYouMean } from '#foundation/text'
import type { ApiTool } from '#openapi'
import type { Api } from '../api.ts'
import type { Downstream } from '../downstream.ts'
import type { Inject } from '../inject.ts'
import type { Loaded } from '../loaded.ts'
import type { Problem } from '../problem.ts'
import type { Located } from '../yaml-file.ts'
import { correction, list, problemsOf } from './names.ts'

/** Whether some path of a template can be at or below an allowed path; the proxy's code judges each path itself. */
const canBeWithin = (template: string, allowed: readonly string[]): boolean =>
  allowed.some((each) => {
    const wanted = each.split('/').filter((step) => step !== '')
    const steps = template.split('/').filter((step) => step !== '')
    return wanted.every((step, at) => steps[at] === step || steps[at]?.includes('{') === true)
  })

/**
 * Why the credential may not go into the requests of a tool to an allowed host; undefined where it may. See
 * `hostProblems`.
 */
const injectionProblem = (
  { operation: { origin, method, path } }: ApiTool,
  { hosts, methods, paths }: Inject,
  downstream: string,
): { readonly message: string; readonly fix: string } | undefined => {
  if (!hosts.includes(origin)) return undefined
  if (!(methods as readonly string[]).includes(method))
    return {
      message: `its method is ${method}, and ${downstream} puts its credential into ${list(methods)}.`,
      fix: `Leave the operation out, or add ${method} to inject.methods of ${downstream}.`,
    }
  if (paths !== undefined && !canBeWithin(path, paths))
    return {
      message: `its path is ${path}, and ${downstream} puts its credential into requests to ${list(paths)}.`,
      fix: `Leave the operation out, or add its path to inject.paths of ${downstream}.`,
    }
  return undefined
}

/** The entry of the file that names a tool, else the list of them. */
const entryOf = ({ tools }: Api, { name, operation }: ApiTool): (string | number)[] => {
  const at = tools.findIndex((each) => 'operation' in each && (each.name === name || each.operation === operation.id))
  return at < 0 ? ['tools'] : ['tools', at]
}

const toolProblems = (located: Located<Api>, tool: ApiTool, downstream: Downstream): Problem[] => {
  const problem = problemsOf(located)
  const at = entryOf(located.value, tool)
  const known = Object.keys(downstream.scopes)
  const injected =
    downstream.inject === undefined ? undefined : injectionProblem(tool, downstream.inject, downstream.downstream)
  return [
    ...(injected === undefined ? [] : [problem(at, `The tool ${tool.name}: ${injected.message}`, injected.fix)]),
    ...tool.scopes
      .filter((scope) => !known.includes(scope))
      .map((scope) =>
        problem(
          at,
          `The tool ${tool.name} needs the scope ${scope}, and ${downstream.downstream} has none of this name.`,
          didYouMean(scope, known) ||
            `Write the downstream's name of it in \`scopes:\`, add it to the file of ${downstream.downstream}, or write \`scopes: []\` for the tool.`,
        ),
      ),
  ]
}

/**
 * The origins of tools to which the credential may not go: one problem for each origin, since its tools share the
 * cause.
 */
const hostProblems = (located: Located<Api>, tools: readonly ApiTool[], downstream: Downstream): Problem[] => {
  const problem = problemsOf(located)
  const hosts = downstream.inject?.hosts ?? []
  const wrong = Map.groupBy(
    tools.filter(({ operation }) => !hosts.includes(operation.origin)),
    ({ operation }) => operation.origin,
  )
  const { base_url: base } = located.value
  return [...wrong].map(([origin, [first, ...others]]) =>
    problem(
      base !== undefined && new URL(base).origin === origin ? ['base_url'] : entryOf(located.value, first!),
      `The tool ${first!.name}${others.length === 0 ? '' : ` and ${others.length} more`}: ${others.length === 0 ? 'its' : 'their'} requests go to ${origin}, and ${downstream.downstream} sends its credential to ${list(hosts)}.`,
      `Correct base_url, or add ${origin} to inject.hosts of ${downstream.downstream}.`,
    ),
  )
}

/** Problems of one kind that many tools share are told for the first of them. */
const MAX_TOLD = 20

/** Every API: its downstream, and whether the credential may go into the requests of its tools. */
export const checkApis = ({ apis, compiled, downstreams }: Loaded): Problem[] =>
  [...apis.values()].flatMap((located) => {
    const { api, downstream: id } = located.value
    const problem = problemsOf(located)
    const downstream = downstreams.get(id)?.value
    if (downstream === undefined)
      return [
        problem(
          ['downstream'],
          `There is no downstream ${id}.`,
          correction(id, 'Known downstreams', downstreams.keys()),
        ),
      ]
    if (downstream.inject === undefined)
      return [
        problem(
          ['downstream'],
          `${id} has no \`inject\`, so its credential goes into no request.`,
          `Add \`inject\` to the file of ${id}; see docs/proxy.md.`,
        ),
      ]
    const tools = compiled.get(api)?.tools ?? []
    return [
      ...hostProblems(located, tools, downstream),
      ...tools.flatMap((tool) => toolProblems(located, tool, downstream)).slice(0, MAX_TOLD),
    ]
  })
