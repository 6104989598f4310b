import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { readScenarios, renderConformance, REVISIONS, runScenario, startConformanceTarget, type ConformanceTarget, type ScenarioResult } from '../../support/conformance.ts'

const scenarios = await readScenarios()
const results: ScenarioResult[] = []
const targets = new Map<string, Promise<ConformanceTarget>>()
afterAll(async () => { await Promise.all([...targets.values()].map(async (target) => (await target).close())) })

describe.each(REVISIONS)('the MCP conformance suite, revision %s', (revision) => {
  it.each(scenarios.server.flatMap((entry) => entry.revisions?.includes(revision) ? entry.scenarios : []))('%s', async (scenario) => {
    const target = targets.get(revision) ?? startConformanceTarget(revision)
    targets.set(revision, target)
    const result = await runScenario((await target).url, scenario, revision)
    results.push(result)
    expect(result).toMatchObject({ failures: [] })
    expect(result.passed).toBeGreaterThan(0)
  })
})

it('docs/mcp-conformance.md says what was run, with which result', async () => {
  await expect(renderConformance(scenarios, results)).toMatchFileSnapshot(join(import.meta.dirname, '../../../docs/mcp-conformance.md'))
})
