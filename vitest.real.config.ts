import { defineConfig } from 'vitest/config'
import plain from './vitest.config.ts'

/**
 * The tests against real peers: `npm run test:real`. A real server on a busy machine is slower than its own limits now and
 * then, which no test here can hold: what fails twice is a fault, and what failed once is shown as retried.
 */
export default defineConfig({
  test: { ...plain.test, include: ['test/real/**/*.test.ts'], exclude: [], testTimeout: 600_000, retry: 1 },
})
