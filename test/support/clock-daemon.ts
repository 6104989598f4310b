/** Starts a daemon whose clock is off by the milliseconds that a file holds, read anew each time: `node clock-daemon.ts HOME FILE`. */
import { readFileSync } from 'node:fs'
import { createSystemRandom } from '../../src/clock.ts'
import { shipped } from '../../src/cli/home.ts'
import { startDaemon } from '../../src/daemon/daemon.ts'

const [home, file] = process.argv.slice(2)
await startDaemon({
  home: home!,
  shipped,
  version: 'test',
  environment: process.env,
  clock: { now: () => Date.now() + Number(readFileSync(file!, 'utf8')) },
  random: createSystemRandom(),
})
