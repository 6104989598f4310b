/** What came of a case, and whether it is what the file expects. */
import { isDeepStrictEqual } from 'node:util'
import { validateArguments, valueAt } from '#openapi'
import type { Expectation, TestCase } from './cases.ts'

export interface Outcome {
  readonly kind: NonNullable<Expectation['outcome']>
  readonly reason?: string
  readonly text: string
  readonly structured?: unknown
  readonly asked: boolean
  /** Requests that reached the simulated API. */
  readonly requests?: number
}

/** Runs the parts of cases; with a simulated API, or at a running server. */
export interface Target {
  tools(user: string): Promise<readonly string[]>
  call(test: TestCase & { readonly tool: string }): Promise<Outcome>
  close(): Promise<void>
}

export interface CaseResult {
  readonly name: string
  readonly passed: boolean
  /** Why it did not run. */
  readonly skipped?: string
  /** What differs from the expectation; empty when it passed. */
  readonly problems: readonly string[]
  readonly milliseconds: number
}

const MAX_SHOWN = 300
const shown = (value: unknown): string => (JSON.stringify(value) ?? 'nothing').slice(0, MAX_SHOWN)

const compareOutcome = async (outcome: Outcome, expected: Expectation): Promise<string[]> => {
  const { kind, reason, text, structured, asked, requests } = outcome
  const problems: string[] = []
  const wanted = expected.outcome ?? 'answer'
  if (kind !== wanted)
    problems.push(
      `The outcome is ${kind}${reason === undefined ? '' : ` (${reason})`}, not ${wanted}: ${text.slice(0, MAX_SHOWN)}`,
    )
  if (expected.reason !== undefined && reason !== expected.reason)
    problems.push(`The reason is ${reason ?? 'not known'}, not ${expected.reason}.`)
  if (expected.text !== undefined && !text.includes(expected.text))
    problems.push(`The text has no ${shown(expected.text)} in it: ${text.slice(0, MAX_SHOWN)}`)
  for (const [pointer, value] of Object.entries(expected.at ?? {})) {
    const found = valueAt(structured, pointer)
    if (!isDeepStrictEqual(found, value)) problems.push(`At ${pointer} is ${shown(found)}, not ${shown(value)}.`)
  }
  if (expected.schema !== undefined)
    problems.push(...(await validateArguments({ inputSchema: expected.schema }, structured, 'The structured content')))
  if (expected.requests !== undefined && requests !== undefined && requests !== expected.requests)
    problems.push(`The API received ${requests} request${requests === 1 ? '' : 's'}, not ${expected.requests}.`)
  if (expected.asked !== undefined && asked !== expected.asked)
    problems.push(
      expected.asked ? 'The user was not asked to connect a service.' : 'The user was asked to connect a service.',
    )
  return problems
}

const compareTools = (found: readonly string[], expected: readonly string[]): string[] => {
  const [more, fewer] = [
    found.filter((each) => !expected.includes(each)),
    expected.filter((each) => !found.includes(each)),
  ]
  return [
    ...(more.length === 0 ? [] : [`The user also sees ${more.join(', ')}.`]),
    ...(fewer.length === 0 ? [] : [`The user does not see ${fewer.join(', ')}.`]),
  ]
}

/** Runs one case. A failure of the test itself is a problem of the case. */
export const runCase = async (test: TestCase, target: Target): Promise<CaseResult> => {
  const began = performance.now()
  const problems: string[] = []
  try {
    const { tool } = test
    if (test.expect.tools !== undefined)
      problems.push(...compareTools(await target.tools(test.user), test.expect.tools))
    if (tool !== undefined) problems.push(...(await compareOutcome(await target.call({ ...test, tool }), test.expect)))
  } catch (error) {
    problems.push(`The case could not be run: ${(error as Error).message}`)
  }
  return { name: test.name, passed: problems.length === 0, problems, milliseconds: performance.now() - began }
}
