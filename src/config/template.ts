/** What `deputy init` writes: every setting that people change first, commented. docs/configuration.md has all of them. */
export const settingsTemplate = `# Deputy: the daemon itself. docs/configuration.md lists every setting.
# \`deputy check\` finds mistakes; changes are read while the daemon runs, unless a comment says otherwise.

# Servers and downstreams that name another environment are not visible to this daemon.
environment: development

# Stands as \`iss\` in the tokens that Deputy mints; services read the keys at <issuer>/.well-known/jwks.json.
issuer: http://127.0.0.1:7880

# Where it listens (read at start).
listen:
  # Unix socket of the local API. To let MCP servers of other users in, set a mode and a group:
  #   socket_mode: "0660"
  #   socket_group: 1234
  socket: run/deputy.sock
  admin: run/admin.sock
  # Loopback TCP for programs that cannot use a Unix socket, for example 127.0.0.1:7878.
  tcp: null
  # Loopback TCP of the injecting proxy (docs/proxy.md), for example 127.0.0.1:7879; its Unix socket is run/proxy.sock.
  proxy: null
  # The pages on which users connect their accounts.
  connect: 127.0.0.1:7880
  # Prometheus metrics, for example 127.0.0.1:9464.
  metrics: null

# The public https URL of the connect pages, when a reverse proxy stands before them.
# connect_url: https://connect.example.com

state: state
kek:
  file: state/kek

audit:
  deadline: 2s
  # files:
  #   - path: state/audit.jsonl

network:
  # Development only: identity providers and services on loopback, over plain http.
  allow_loopback: false
  # Private ranges in which identity providers and services may be.
  allow_private: []
`

export const examples: Readonly<Record<string, string>> = {
  'tenants/README.md': 'One YAML file a tenant. `deputy tenant add --help` writes the first one.\n',
  'servers/README.md':
    'One YAML file an MCP server. `deputy server add --help` writes one; `deputy server import` takes over a server.json.\n',
  'downstreams/README.md':
    'One YAML file a service that credentials are for. `deputy downstream add --help` writes one.\n',
  'clients/README.md': 'One YAML file an MCP client or agent that is registered by hand. See docs/sign-in.md.\n',
  'providers/README.md':
    'Provider files of your own; they override the ones that come with Deputy. `deputy provider add --help` writes one.\n',
}
