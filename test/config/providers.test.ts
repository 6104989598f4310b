import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { knownServerSchema, readKnownServers } from '../../src/config/known-server.ts'
import { providerSchema } from '../../src/config/provider.ts'
import { parseYamlFile } from '../../src/config/yaml-file.ts'

const folder = new URL('../../providers/', import.meta.url)
const files = readdirSync(folder).filter((name) => name !== 'mcp')

describe('provider files', () => {
  it('are at least forty', () => {
    expect(files.length).toBeGreaterThanOrEqual(40)
  })

  for (const name of files) {
    it(`${name} is valid, named after its id, and says where its facts are from`, () => {
      const { values, problems } = parseYamlFile(name, readFileSync(new URL(name, folder), 'utf8'), providerSchema)
      expect(problems).toEqual([])
      expect(values[0]?.value.provider).toBe(name.replace('.yaml', ''))
      const { sources, pkce, revocation, refresh } = values[0]!.value
      const needed = [
        'endpoints',
        ...(pkce === 'unsupported' ? ['pkce'] : []),
        ...(revocation === 'none' ? [] : ['revocation']),
        ...(refresh.rotates || refresh.leeway > 0 ? ['refresh'] : []),
      ]
      expect(needed.filter((fact) => sources[fact] === undefined)).toEqual([])
    })
  }
})

describe('files of known remote MCP servers', () => {
  const known = new URL('mcp/', folder)
  const names = readdirSync(known)

  it('are at least twenty, each read by the command that uses them', async () => {
    const servers = await readKnownServers(fileURLToPath(known))
    expect([...servers.keys()].map((id) => `${id}.yaml`).toSorted()).toEqual(names.toSorted())
    expect(names.length).toBeGreaterThanOrEqual(20)
    // A name and a URL stand for one server.
    expect(new Set([...servers.values()].map(({ mcp }) => mcp)).size).toBe(names.length)
    // The files of `downstream add --known` have ids of their own.
    expect(names.filter((name) => files.includes(name.replace('.yaml', '-mcp.yaml')))).toEqual([])
  })

  it.each(names)('%s is valid, named after its id, and has a source for each fact', (name) => {
    const { values, problems } = parseYamlFile(name, readFileSync(new URL(name, known), 'utf8'), knownServerSchema)
    expect([problems, values[0]?.value.known]).toEqual([[], name.replace('.yaml', '')])
  })

  it('a fact without a source, and a URL without TLS, are problems', () => {
    const text =
      'known: x\nname: X\nmcp: http://x.example/mcp\nregistration: dynamic\nsources: { mcp: https://x.example }\n'
    const { problems } = parseYamlFile('x.yaml', text, knownServerSchema)
    expect(problems.map(({ message }) => message).join()).toMatch(/https/)
    const fixed = parseYamlFile('x.yaml', text.replace('http:', 'https:'), knownServerSchema)
    expect(fixed.problems.map(({ message }) => message).join()).toMatch(/the source of registration is missing/)
  })
})
