import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { parseYamlFile } from '../../src/config/yaml-file.ts'

const schema = z.strictObject({
  service_downstreams: z.record(z.string(), z.number()).optional(),
  inject: z.strictObject({ redact_response: z.boolean() }).optional(),
  over_scoped: z.string().optional(),
  limits: z.strictObject({ shutdown_delay: z.string() }).optional(),
})
const read = (text: string) => parseYamlFile('f.yaml', text, schema)

describe('settings under an old name', () => {
  test('are read, and a warning names the line and the new name', () => {
    const { values, problems } = read(
      'own:\n  a: 1\ninject:\n  strike: false\n---\nlimits: { unready: 5s }\nwider: mark\n',
    )
    expect(problems).toEqual([])
    expect(values.map(({ value }) => value)).toEqual([
      { service_downstreams: { a: 1 }, inject: { redact_response: false } },
      { limits: { shutdown_delay: '5s' }, over_scoped: 'mark' },
    ])
    expect(values.map(({ warnings }) => warnings?.map(({ line, message }) => `${line}: ${message}`))).toEqual([
      ['1: own is called service_downstreams now.', '4: inject.strike is called inject.redact_response now.'],
      ['7: wider is called over_scoped now.', '6: limits.unready is called limits.shutdown_delay now.'],
    ])
    expect(values[0]!.lineOf(['inject', 'redact_response'])).toBe(4)
  })

  test('beside the new name are refused: nobody can say which of the two is meant', () => {
    const { values, problems } = read('own: { a: 1 }\nservice_downstreams: { a: 2 }\n')
    expect(values).toEqual([])
    expect(problems).toEqual([expect.objectContaining({ line: 1, message: expect.stringContaining('own') as string })])
  })

  test('are not looked for elsewhere', () => {
    expect(read('inject: { own: 1 }\n').problems).toHaveLength(2)
    expect(read('own\n').problems).not.toEqual([])
  })
})
