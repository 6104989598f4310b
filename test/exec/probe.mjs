/** A stdio server for tests: tells on standard output what it was given, and does what lines on standard input say. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { request } from 'node:http'
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'

const tell = (what) => {
  process.stdout.write(`${JSON.stringify(what)}\n`)
}
const [socketPath, mode] = process.argv.slice(2)

if (mode === 'ignore')
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'])
    process.on(signal, () => {
      tell({ signal })
    })
else
  process.on('SIGHUP', () => {
    tell({
      signal: 'SIGHUP',
      file: process.env['KEY_FILE'] === undefined ? undefined : readFileSync(process.env['KEY_FILE'], 'utf8'),
    })
  })

/** A token for the server itself, over the Unix socket, with nothing to prove who asks but what the kernel says. */
const ask = () =>
  new Promise((resolve) => {
    const body = 'grant_type=client_credentials&audience=ledger'
    request(
      {
        socketPath,
        path: '/oauth2/token',
        method: 'POST',
        agent: false,
        headers: {
          host: 'localhost',
          'content-type': 'application/x-www-form-urlencoded',
          'content-length': body.length,
        },
      },
      (response) => {
        let text = ''
        response.on('data', (chunk) => {
          text += chunk
        })
        response.on('end', () => {
          const { reason, scope } = JSON.parse(text)
          resolve({ status: response.statusCode, reason, scope })
        })
      },
    )
      .on('error', (error) => {
        resolve({ problem: error.code })
      })
      .end(body)
  })

if (mode === 'grandchild')
  void ask().then((asked) => {
    tell({ asked })
    process.exit(0)
  })
else {
  const open = readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      return Number(fd) > 2 ? [readlinkSync(`/proc/self/fd/${fd}`)] : []
    } catch {
      return []
    }
  })
  tell({
    pid: process.pid,
    environment: process.env,
    argv: process.argv,
    sockets: open.filter((link) => link.startsWith('socket:')).length,
    file: process.env['KEY_FILE'] === undefined ? undefined : readFileSync(process.env['KEY_FILE'], 'utf8'),
  })
  const lines = createInterface({ input: process.stdin })
  lines.on('line', (line) => {
    if (line === 'ask')
      void ask().then((asked) => {
        tell({ asked })
      })
    else if (line === 'grandchild')
      spawn(process.execPath, [process.argv[1], socketPath, 'grandchild'], { stdio: ['ignore', 'inherit', 'inherit'] })
    else if (line.startsWith('exit ')) process.exit(Number(line.slice(5)))
    else if (line.startsWith('die ')) process.kill(process.pid, line.slice(4))
  })
  lines.on('close', () => {
    if (mode !== 'ignore') process.exit(0)
  })
}
