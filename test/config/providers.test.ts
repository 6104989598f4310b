import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { providerSchema } from '../../src/config/provider.ts'
import { parseYamlFile } from '../../src/config/yaml-file.ts'

const folder = new URL('../../providers/', import.meta.url)

describe('provider files', () => {
  for (const name of readdirSync(folder)) {
    it(`${name} is valid, named after its id, and says where its facts are from`, () => {
      const { values, problems } = parseYamlFile(name, readFileSync(new URL(name, folder), 'utf8'), providerSchema)
      expect(problems).toEqual([])
      expect(values[0]?.value.provider).toBe(name.replace('.yaml', ''))
      expect(Object.keys(values[0]?.value.sources ?? {}).length).toBeGreaterThan(0)
    })
  }
})
