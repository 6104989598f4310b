/** Runs cases at a running MCP server, over HTTP or stdio, as any MCP client does. */
import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { Client, type CallToolResult, ProtocolError, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio'
import { contentText } from '#openapi'
import type { TestCase, TestFile, TestUser } from './cases.ts'
import type { Outcome, Target } from './outcome.ts'

export interface OnlineOptions {
  readonly file: TestFile
  /** URL of the server, where the file names one over HTTP. */
  readonly url: string | undefined
  /** The folder of the file: paths in it are relative to it. */
  readonly folder: string
  readonly environment: Readonly<Record<string, string | undefined>>
}

/**
 * JSON-RPC: the method exists, and its parameters do not fit, such as the name of a tool that the server does not have.
 */
const INVALID_PARAMS = -32_602

const tokenOf = async (
  name: string,
  { token }: TestUser,
  { environment, folder }: OnlineOptions,
): Promise<string | undefined> => {
  if (token === undefined) return undefined
  if ('file' in token) return (await readFile(resolve(folder, token.file), 'utf8')).trim()
  const value = environment[token.env]
  if (value === undefined || value === '')
    throw new Error(`the environment has no ${token.env} with the token of ${name}`)
  return value
}

/** A connection of one user, and what the server asked that user. */
class Connection {
  readonly client: Client
  answer: TestCase['elicitation'] = 'decline'
  asked = false

  constructor() {
    this.client = new Client(
      { name: 'deputy-test', version: '1' },
      { capabilities: { elicitation: { url: {} } }, versionNegotiation: { mode: 'auto' } },
    )
    this.client.setRequestHandler('elicitation/create', () => {
      this.asked = true
      return Promise.resolve({ action: this.answer })
    })
  }

  async open(options: OnlineOptions, user: string): Promise<void> {
    const { file, url, folder } = options
    const token = await tokenOf(user, file.users[user]!, options)
    if (file.command !== undefined) {
      const [command, ...args] = file.command
      await this.client.connect(
        new StdioClientTransport({
          command: command!,
          args,
          cwd: folder,
          stderr: 'inherit',
          env: Object.fromEntries(
            Object.entries(options.environment).filter((entry): entry is [string, string] => entry[1] !== undefined),
          ),
        }),
      )
      return
    }
    const headers: Record<string, string> = token === undefined ? {} : { authorization: `Bearer ${token}` }
    await this.client.connect(new StreamableHTTPClientTransport(new URL(url!), { requestInit: { headers } }))
  }
}

const outcomeOf = ({ content, structuredContent, isError }: CallToolResult, asked: boolean): Outcome => ({
  kind: isError === true ? 'error' : 'answer',
  text: contentText(content),
  structured: structuredContent,
  asked,
})

const failureOf = (error: unknown, asked: boolean): Outcome => {
  if (!(error instanceof ProtocolError)) throw error
  const isHidden = error.code === INVALID_PARAMS && /not found|unknown tool/i.test(error.message)
  return { kind: isHidden ? 'hidden' : 'refused', text: error.message, asked }
}

/** Connections are opened when a user's first case runs, and kept. */
export const openOnline = (options: OnlineOptions): Target => {
  const connections = new Map<string, Promise<Connection>>()
  const connect = (user: string): Promise<Connection> => {
    let found = connections.get(user)
    if (found === undefined) {
      const connection = new Connection()
      found = connection.open(options, user).then(() => connection)
      connections.set(user, found)
    }
    return found
  }
  return {
    async tools(user) {
      const { client } = await connect(user)
      return (await client.listTools()).tools.map(({ name }) => name)
    },
    async call({ user, tool, arguments: args, elicitation }) {
      const connection = await connect(user)
      connection.asked = false
      connection.answer = elicitation
      try {
        const result = await connection.client.callTool({ name: tool, arguments: args })
        return outcomeOf(result as CallToolResult, connection.asked)
      } catch (error) {
        return failureOf(error, connection.asked)
      }
    },
    async close() {
      const opened = await Promise.allSettled(connections.values())
      await Promise.all(opened.flatMap((each) => (each.status === 'fulfilled' ? [each.value.client.close()] : [])))
    },
  }
}
