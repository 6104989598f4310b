import { join } from 'node:path'
import { defineConfig } from 'vitest/config'
import { BaseSequencer, type TestSpecification } from 'vitest/node'

/** Files that take longest, because they wait for kills, leases and logins: one that began last would be waited for alone. */
const LONGEST = [
  'test/rotation/',
  'test/e2e/entitlement.test.ts',
  'test/exec/',
  'test/cluster/',
  'test/sdk/mcp/conformance.test.ts',
  'test/database-proxy/',
  'test/store/postgres.test.ts',
  'test/http-proxy/transport.test.ts',
  'test/e2e/daemon.test.ts',
  'test/e2e/start-failures.test.ts',
  'test/e2e/vault.test.ts',
  'test/revocation/',
  'test/faults/',
  'test/e2e/leases.test.ts',
]

/** Here Node keeps what it compiled: each process that a test starts, and each of vitest's own, reads it instead of compiling anew. */
process.env['NODE_COMPILE_CACHE'] ??= join(import.meta.dirname, 'node_modules/.cache/compiled')

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification): number => {
      const at = LONGEST.findIndex((part) => moduleId.includes(part))
      return at < 0 ? LONGEST.length : at
    }
    return (await super.sort(files)).toSorted((a, b) => rank(a) - rank(b))
  }
}

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // Real peers that no package of npm or Debian brings: vitest.real.config.ts.
    exclude: ['test/real/**'],
    // A machine that is three times slower, or has another program on its cores, has to pass too.
    testTimeout: 90_000,
    hookTimeout: 180_000,
    expect: { poll: { timeout: 30_000 } },
    pool: 'forks',
    // A worker takes one file after the other: no test replaces a module, and each file ends what it has started.
    isolate: false,
    // One more than the cores of a small machine: much of a test is waiting for a lease, a kill or a provider.
    maxWorkers: 3,
    sequence: { sequencer: LongestFirst },
    // Node reads TypeScript itself; its modules need no other transformation here, and no test replaces a module.
    experimental: { viteModuleRunner: false, nodeLoader: false },
  },
})
