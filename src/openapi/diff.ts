/** What another document changes for the callers of tools. */
import type { Narrowing } from './schema-diff.ts'
import { narrowings } from './schema-diff.ts'
import type { ApiTool, JsonSchema } from './tool.ts'

/** One difference between a tool and the tool of the same name. */
export interface ToolChange {
  /** A call or a reader of answers that worked may not work. */
  readonly breaks: boolean
  readonly message: string
}

/** A tool, and what becomes of it. */
export interface ToolDifference {
  readonly tool: string
  readonly what: 'new' | 'gone' | 'changed'
  readonly breaks: boolean
  readonly changes: readonly ToolChange[]
}

/** More are not told one by one. */
const MAX_CHANGES = 50

const asChanges = (found: readonly Narrowing[], what: string): ToolChange[] => {
  const different = [...new Map(found.map((each) => [each.at + each.message, each])).values()]
  return different.slice(0, MAX_CHANGES).map(({ at, message }) => ({
    breaks: true,
    message: `${what}${at === '' ? '' : ` ${at}`}: ${message}`,
  }))
}

const inputChanges = (before: JsonSchema, after: JsonSchema): ToolChange[] => {
  const breaking = asChanges(narrowings(before, after), 'argument')
  if (breaking.length > 0) return breaking
  const wider = narrowings(after, before)
  return wider.length === 0 ? [] : [{ breaks: false, message: `takes more than before (${placesOf(wider)})` }]
}

const placesOf = (found: readonly Narrowing[]): string =>
  [...new Set(found.map(({ at }) => at || 'the whole'))].slice(0, 5).join(', ')

const outputChanges = (before: JsonSchema | undefined, after: JsonSchema | undefined): ToolChange[] => {
  if (before === undefined)
    return after === undefined ? [] : [{ breaks: false, message: 'its answer is described now' }]
  if (after === undefined) return [{ breaks: true, message: 'its answer is no longer described' }]
  // A reader knows the old description: what it does not say is new to the reader.
  const breaking = asChanges(narrowings(after, before), 'answer')
  if (breaking.length > 0)
    return breaking.map((each) => ({ ...each, message: each.message.replace('it no longer takes', 'it never was') }))
  const narrower = narrowings(before, after)
  return narrower.length === 0 ? [] : [{ breaks: false, message: `its answer says more (${placesOf(narrower)})` }]
}

const otherChanges = (before: ApiTool, after: ApiTool): ToolChange[] => {
  const changes: ToolChange[] = []
  const [was, is] = [before.operation, after.operation]
  const added = after.scopes.filter((scope) => !before.scopes.includes(scope))
  if (added.length > 0) changes.push({ breaks: true, message: `needs the scopes ${added.join(', ')} as well` })
  if (was.method !== is.method || was.path !== is.path || was.origin !== is.origin)
    changes.push({
      breaks: false,
      message: `sends ${is.method} ${is.origin}${is.path}, and sent ${was.method} ${was.origin}${was.path}`,
    })
  for (const effect of ['readOnly', 'destructive', 'idempotent'] as const)
    if (before.effects[effect] !== after.effects[effect])
      changes.push({ breaks: false, message: `${effect} is ${after.effects[effect]}` })
  if (!before.isDeprecated && after.isDeprecated) changes.push({ breaks: false, message: 'is deprecated' })
  if (before.description !== after.description || before.title !== after.title)
    changes.push({ breaks: false, message: 'is described in other words' })
  return changes
}

/** Every tool that differs, those that break a caller first. */
export const diffTools = (before: readonly ApiTool[], after: readonly ApiTool[]): ToolDifference[] => {
  const [old, young] = [
    new Map(before.map((each) => [each.name, each])),
    new Map(after.map((each) => [each.name, each])),
  ]
  const gone = before
    .filter(({ name }) => !young.has(name))
    .map(({ name }): ToolDifference => ({ tool: name, what: 'gone', breaks: true, changes: [] }))
  const fresh = after
    .filter(({ name }) => !old.has(name))
    .map(({ name }): ToolDifference => ({ tool: name, what: 'new', breaks: false, changes: [] }))
  const changed = after.flatMap((tool): ToolDifference[] => {
    const was = old.get(tool.name)
    if (was === undefined) return []
    const changes = [
      ...inputChanges(was.inputSchema, tool.inputSchema),
      ...outputChanges(was.outputSchema, tool.outputSchema),
      ...otherChanges(was, tool),
    ]
    return changes.length === 0
      ? []
      : [{ tool: tool.name, what: 'changed', breaks: changes.some(({ breaks }) => breaks), changes }]
  })
  return [...gone, ...changed, ...fresh].sort((a, b) => Number(b.breaks) - Number(a.breaks))
}
