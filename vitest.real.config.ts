import { defineConfig } from 'vitest/config'
import plain from './vitest.config.ts'

/** The tests against real peers: `npm run test:real`. */
export default defineConfig({
  test: { ...plain.test, include: ['test/real/**/*.test.ts'], exclude: [], testTimeout: 600_000 },
})
