// Connects to the Unix socket named on the command line and stays, or leaves at once.
import { connect } from 'node:net'

const [path, stay] = process.argv.slice(2)
const socket = connect(path, () => {
  if (stay === 'leave') process.exit(0)
  process.stdout.write('connected\n')
})
socket.on('close', () => process.exit(0))
