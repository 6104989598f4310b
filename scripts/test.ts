/** `npm test`: installs the programs that the tests need, runs them and says in the last line how many passed, failed and were skipped. */
import { runTests } from './run-tests.ts'

const { exitCode, summary } = await runTests(process.argv.slice(2))
process.stdout.write(`${summary}\n`)
process.exitCode = exitCode
