import { readFile } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { credentialKindSchema, downstreamSchema } from '../../src/config/downstream.ts'

const page = await readFile(new URL('../../docs/credentials.md', import.meta.url), 'utf8')
const sections = page
  .split(/^## /m)
  .slice(1)
  .map((section) => ({
    kind: section.slice(0, section.indexOf('\n')),
    example: /```yaml\n([^`]*)```/.exec(section)?.[1] ?? '',
    section,
  }))

describe('docs/credentials.md', () => {
  it('has a section for every kind of credential, in order', () => {
    expect(sections.map(({ kind }) => kind)).toEqual(credentialKindSchema.options.toSorted())
  })

  it.each(sections)(
    'has an example of $kind that is a file, and says what can be narrowed',
    ({ kind, example, section }) => {
      expect(downstreamSchema.parse(parse(example)).credential).toBe(kind)
      expect(section).toContain('Can be narrowed:')
    },
  )
})
