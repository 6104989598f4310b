import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { serverSchema } from '../../src/config/server.ts'
import { exportServerJson, importServerJson } from '../../src/identity/workload/server-json.ts'

const given = { owner: 'platform@example.com', tenants: ['acme'] }
const aName = fc
  .tuple(fc.stringMatching(/^[a-zA-Z0-9.-]{1,98}$/), fc.stringMatching(/^[a-zA-Z0-9._-]{1,98}$/))
  .map(([left, right]) => `${left}/${right}`)

describe('the import of a server.json', () => {
  it('takes over a remote server, proposed', () => {
    const draft = importServerJson(
      {
        $schema: 'https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json',
        name: 'com.example/acme-analytics',
        title: 'ACME Analytics',
        description: 'Real-time business intelligence',
        version: '2.0.0',
        remotes: [
          { type: 'streamable-http', url: 'https://analytics.example.com/mcp' },
          { type: 'sse', url: 'https://analytics.example.com/sse' },
        ],
      },
      given,
    )
    expect(draft).toEqual({
      server: 'com.example.acme-analytics',
      name: 'ACME Analytics',
      description: 'Real-time business intelligence',
      version: '2.0.0',
      resource: 'https://analytics.example.com/mcp',
      status: 'proposed',
      published: { name: 'com.example/acme-analytics' },
      ...given,
    })
    expect(serverSchema.parse(draft)).toMatchObject({ status: 'proposed', attest: [], downstreams: {} })
  })

  it('gives a stdio server a name of its own as resource', () => {
    const draft = importServerJson(
      {
        name: 'io.github.user/weather',
        version: '1.0.0',
        packages: [
          { registryType: 'npm', identifier: '@user/weather', version: '1.0.0', transport: { type: 'stdio' } },
        ],
      },
      given,
    )
    expect(draft.resource).toBe('urn:mcp:io.github.user.weather')
  })

  it.each(['https://{tenant}.example.com/mcp', 'javascript:alert(1)', 'not a url', 'https://example.com/#mcp'])(
    'does not take %s for a resource',
    (url) => {
      expect(importServerJson({ name: 'com.example/x', remotes: [{ type: 'sse', url }] }, given).resource).toBe(
        'urn:mcp:com.example.x',
      )
    },
  )

  it('tells long names apart', () => {
    const [one, two] = ['a', 'b'].map(
      (end) => importServerJson({ name: `com.example/${'x'.repeat(100)}${end}` }, given).server,
    )
    expect(one).not.toBe(two)
  })

  it.each([
    null,
    'text',
    [],
    {},
    { name: 'no-slash' },
    { name: 'two/slash/es' },
    { name: 'com.example/x', remotes: 'none' },
  ])('refuses %j', (json) => {
    expect(() => importServerJson(json, given)).toThrow(expect.objectContaining({ code: 'malformed_request' }))
  })

  it("always makes what a server's file may hold", () => {
    fc.assert(
      fc.property(
        aName,
        fc.option(fc.webUrl({ withFragments: true, withQueryParameters: true }), { nil: undefined }),
        fc.option(fc.string(), { nil: undefined }),
        (name, url, description) => {
          const draft = importServerJson(
            {
              name,
              ...(description === undefined ? {} : { description }),
              ...(url === undefined ? {} : { remotes: [{ type: 'sse', url }] }),
            },
            given,
          )
          expect(serverSchema.safeParse(draft).error?.issues).toBeUndefined()
        },
      ),
    )
  })
})

describe('the export of a server', () => {
  it('comes back the same through an import, whatever it is called', () => {
    fc.assert(
      fc.property(
        aName,
        fc.option(fc.webUrl(), { nil: undefined }),
        fc.option(fc.string({ minLength: 1 }), { nil: undefined }),
        (name, url, description) => {
          const draft = importServerJson(
            {
              name,
              version: '1.2.3',
              packages: [{ registryType: 'npm', identifier: 'x', transport: { type: 'stdio' } }],
              ...(description === undefined ? {} : { description }),
              ...(url === undefined ? {} : { remotes: [{ type: 'streamable-http', url }] }),
            },
            given,
          )
          const again = importServerJson(exportServerJson(serverSchema.parse(draft), undefined), given)
          expect({ ...again, description: undefined, name: undefined }).toEqual({
            ...draft,
            description: undefined,
            name: undefined,
          })
        },
      ),
    )
  })

  it('keeps tenants, attestation and downstreams here, and asks for a name where there is none', () => {
    const server = serverSchema.parse({
      server: 'notes',
      resource: 'https://notes.example/mcp',
      tenants: ['acme'],
      owner: 'ada@example.com',
      status: 'deprecated',
      replaced_by: 'notes2',
      attest: [{ unix: { uid: 4711 } }],
      downstreams: { 'notes-api': {} },
      tools: { list: { description: 'Lists', deprecated: true } },
    })
    expect(() => exportServerJson(server, undefined)).toThrow(expect.objectContaining({ code: 'malformed_request' }))
    const exported = exportServerJson(server, 'com.example')
    expect(exported).toMatchObject({
      name: 'com.example/notes',
      version: '0.0.0',
      remotes: [{ type: 'streamable-http', url: 'https://notes.example/mcp' }],
      _meta: {
        'io.modelcontextprotocol.registry/publisher-provided': {
          owner: 'ada@example.com',
          status: 'deprecated',
          replaced_by: 'notes2',
          tools: [{ name: 'list', deprecated: true }],
        },
      },
    })
    for (const kept of ['acme', '4711', 'notes-api']) expect(JSON.stringify(exported)).not.toContain(kept)
  })
})
