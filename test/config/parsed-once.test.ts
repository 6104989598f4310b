import { expect, test } from 'vitest'
import { z } from 'zod'
import { parsedOnce } from '../../src/config/parsed-once.ts'

test('a file is parsed anew when its text has changed, and each path has its own', () => {
  const parse = parsedOnce(z.strictObject({ name: z.string() }))
  const first = parse('a.yaml', '# One\nname: one\n')
  expect(first.values.map(({ value, file, lineOf }) => [value, file, lineOf(['name'])])).toEqual([
    [{ name: 'one' }, 'a.yaml', 2],
  ])
  expect(parse('a.yaml', '# One\nname: one\n')).toBe(first)
  expect(parse('b.yaml', '# One\nname: one\n').values[0]!.file).toBe('b.yaml')
  expect(parse('a.yaml', 'name: 2\n')).toMatchObject({ values: [], problems: [{ file: 'a.yaml', line: 1 }] })
  expect(parse('a.yaml', 'name: two\n')).toMatchObject({ values: [{ value: { name: 'two' } }], problems: [] })
})
