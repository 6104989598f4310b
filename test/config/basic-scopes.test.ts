import { describe, expect, it } from 'vitest'
import { basicScopeWarnings } from '../../src/config/basic-scopes.ts'
import { serverSchema, type Server } from '../../src/config/server.ts'
import { aServer } from '../support/snapshot.ts'

const toolsOf = (tools: object): Server['tools'] =>
  serverSchema.parse({
    server: 'notes',
    resource: 'https://notes.example/mcp',
    tenants: '*',
    owner: 'a@example.com',
    tools,
  }).tools
const warnings = (server: Partial<Server>): string[] =>
  basicScopeWarnings({ servers: new Map([['notes', aServer(server)]]) }).map(({ message }) => message)

describe('servers without basic scopes', () => {
  it('fault 76: are told that some clients ask for every scope, where a tool requires one', () => {
    const tools = toolsOf({ pay: { requires: ['books', 'payroll'] }, read: {}, close: { requires: ['books'] } })
    expect(warnings({ tools, basic_scopes: [] })).toEqual([
      expect.stringContaining('every scope of the identity provider, books payroll included'),
    ])
    expect(warnings({ tools, basic_scopes: ['mcp'] })).toEqual([])
    expect(warnings({ tools, basic_scopes: [], status: 'retired' })).toEqual([])
    expect(warnings({ tools: toolsOf({ read: {} }), basic_scopes: [] })).toEqual([])
  })
})
