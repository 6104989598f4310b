import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { beforeAll, describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { rotationPolicySchema } from '../../src/config/rotation-policy.ts'

const FOLDER = join(import.meta.dirname, '../../policies/rotation')
const read = (name: string): Promise<string> => readFile(join(FOLDER, name), 'utf8')

describe('the JSON Schema of rotation policies, for editors', () => {
  let isValid: (value: unknown) => boolean
  let example: Record<string, unknown>
  beforeAll(async () => {
    isValid = new Ajv2020({ strict: false, allErrors: true }).compile(JSON.parse(await read('schema.json')) as object)
    example = parse(await read('example.yaml')) as Record<string, unknown>
  })
  const both = (value: unknown): [boolean, boolean] => [isValid(value), rotationPolicySchema.safeParse(value).success]

  it('accepts the example that comes along, as Deputy does', () => {
    expect(both(example)).toEqual([true, true])
  })

  it('refuses what Deputy refuses', () => {
    const how = example['how'] as object
    for (const wrong of [
      { ...example, owner: undefined },
      { ...example, unknown: 1 },
      { ...example, grace: '1 hour' },
      { ...example, grace: 3600 },
      { ...example, how: { ...how, rotator: 'magic' } },
      { ...example, how: { ...how, port: 70_000 } },
      { ...example, when: { every: '30d', on: ['full moon'] } },
      { ...example, when: { windows: [{ from: '25:00', to: '05:00' }] } },
      { ...example, secrets: { name: '../etc' } },
      { ...example, concurrency: 0 },
      { ...example, notify: [{ webhook: 'https://x.example' }] },
    ])
      expect(both(JSON.parse(JSON.stringify(wrong)))).toEqual([false, false])
  })

  it('knows every rotator', () => {
    const kinds = rotationPolicySchema.shape.how.options.map((option) => option.shape.rotator.value)
    expect(isValid({ ...example, how: {} })).toBe(false)
    expect([...kinds].sort()).toEqual([
      'command',
      'deputy_keys',
      'oauth_client',
      'postgres',
      'redis',
      'vault_static_role',
      'webhook',
    ])
  })
})
