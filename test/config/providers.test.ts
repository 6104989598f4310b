import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { providerSchema } from '../../src/config/provider.ts'
import { parseYamlFile } from '../../src/config/yaml-file.ts'

const folder = new URL('../../providers/', import.meta.url)

describe('provider files', () => {
  it('are at least forty', () => {
    expect(readdirSync(folder).length).toBeGreaterThanOrEqual(40)
  })

  for (const name of readdirSync(folder)) {
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
