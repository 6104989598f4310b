/** On a host: `node relay.ts PORT=SOCKET ...` passes connections to 127.0.0.1:PORT on to a Unix socket, which all hosts see. */
import { connect, createServer } from 'node:net'

for (const pair of process.argv.slice(2)) {
  const [port, socket] = pair.split('=') as [string, string]
  createServer((near) => {
    const far = connect(socket)
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      from.on('error', () => to.destroy())
      from.pipe(to)
    }
  }).listen(Number(port), '127.0.0.1')
}
