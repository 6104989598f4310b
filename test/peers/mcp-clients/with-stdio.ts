/** A client of the official TypeScript SDK that starts a server over stdio: `with-stdio.ts TOOL... -- PROGRAM ARGUMENT...`, one line of JSON a step. */
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js'

const words = process.argv.slice(2)
const names = words.slice(0, words.indexOf('--'))
const [command, ...args] = words.slice(words.indexOf('--') + 1)

const say = (step: string, facts: object): void => {
  process.stdout.write(`${JSON.stringify({ step, ...facts })}\n`)
}

const client = new Client({ name: 'test', version: '1.0.0' })
const environment = Object.fromEntries(Object.entries(process.env).map(([name, value]) => [name, value ?? '']))
await client.connect(new StdioClientTransport({ command: command!, args, env: environment, stderr: 'inherit' }), {
  timeout: 60_000,
})
say('tools', { tools: (await client.listTools()).tools.map(({ name }) => name) })
for (const name of names) {
  try {
    const answer = await client.callTool({ name, arguments: {} })
    const [said] = answer.content as { text: string }[]
    say(name, { text: said!.text, isError: answer.isError === true })
  } catch (error) {
    say(name, { text: String(error), isError: true })
  }
}
await client.close()
