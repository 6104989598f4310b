/** The configuration with which each known MCP client calls the author's server, and the page where its makers document that. */

export interface ClientSnippet {
  readonly client: string
  /** Where the text goes. */
  readonly place: string
  readonly text: string
  readonly source: string
}

/** On one line, for a person. */
const json = (value: object): string =>
  JSON.stringify(value, null, 1)
    .replaceAll(/\n\s*/g, ' ')
    .replaceAll(/\[ | \]/g, (bracket) => bracket.trim())

/** @param url the MCP endpoint. @param name the server's name in the clients */
const overHttp = (name: string, url: string): ClientSnippet[] => [
  {
    client: 'Claude Code',
    place: 'run',
    text: `claude mcp add --transport http ${name} ${url}`,
    source: 'https://code.claude.com/docs/en/mcp',
  },
  {
    client: 'Claude Desktop',
    place: 'claude_desktop_config.json',
    text: json({ mcpServers: { [name]: { command: 'npx', args: ['-y', 'mcp-remote', url] } } }),
    source: 'https://www.npmjs.com/package/mcp-remote',
  },
  {
    client: 'VS Code',
    place: '.vscode/mcp.json',
    text: json({ servers: { [name]: { type: 'http', url } } }),
    source: 'https://code.visualstudio.com/docs/copilot/reference/mcp-configuration',
  },
  {
    client: 'Cursor',
    place: '.cursor/mcp.json',
    text: json({ mcpServers: { [name]: { url } } }),
    source: 'https://cursor.com/docs/mcp',
  },
  {
    client: 'MCP inspector',
    place: 'run',
    text: `npx -y @modelcontextprotocol/inspector --cli ${url} --transport http --method tools/list`,
    source: 'https://github.com/modelcontextprotocol/inspector/blob/main/clients/cli/README.md',
  },
]

const overStdio = (
  name: string,
  { command, env }: { command: readonly string[]; env: Readonly<Record<string, string>> },
): ClientSnippet[] => {
  const args = ['exec', '--server', name, '--', ...command]
  const options = Object.entries(env).map(([variable, value]) => `--env ${variable}=${value}`)
  return [
    {
      client: 'Claude Code',
      place: 'run',
      text: `claude mcp add ${options.join(' ')} ${name} -- deputy ${args.join(' ')}`,
      source: 'https://code.claude.com/docs/en/mcp',
    },
    {
      client: 'Claude Desktop, Cursor',
      place: 'claude_desktop_config.json, .cursor/mcp.json',
      text: json({ mcpServers: { [name]: { command: 'deputy', args, env } } }),
      source: 'https://modelcontextprotocol.io/docs/develop/connect-local-servers',
    },
    {
      client: 'VS Code',
      place: '.vscode/mcp.json',
      text: json({ servers: { [name]: { type: 'stdio', command: 'deputy', args, env } } }),
      source: 'https://code.visualstudio.com/docs/copilot/reference/mcp-configuration',
    },
  ]
}

/** @param how a URL, or the command of a stdio server with its environment */
export const clientSnippets = (
  name: string,
  how:
    { readonly url: string } | { readonly command: readonly string[]; readonly env: Readonly<Record<string, string>> },
): ClientSnippet[] => ('url' in how ? overHttp(name, how.url) : overStdio(name, how))
