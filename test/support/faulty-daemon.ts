/** Starts a daemon that kills itself at a point of a rotation: `node faulty-daemon.ts HOME POINT`. */
import { createSystemRandom, systemClock } from '../../src/clock.ts'
import { shipped } from '../../src/cli/home.ts'
import { startDaemon } from '../../src/daemon/daemon.ts'

const [home, point] = process.argv.slice(2)
await startDaemon({
  home: home!,
  shipped,
  version: 'test',
  environment: process.env,
  clock: systemClock,
  random: createSystemRandom(),
  atFaultPoint: (reached) => {
    if (reached === point) process.kill(process.pid, 'SIGKILL')
  },
})
