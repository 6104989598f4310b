import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { missingIn, unnamedFolders } from '../../scripts/docs-paths.ts'

const root = mkdtempSync(join(tmpdir(), 'deputy-docs-'))
mkdirSync(join(root, 'src/http'), { recursive: true })
mkdirSync(join(root, 'docs'))
writeFileSync(join(root, 'src/http/form.ts'), '')
mkdirSync(join(root, 'test'))
writeFileSync(join(root, 'test/here.test.ts'), "test('refuses some', …)\ntest.each([['in a table', …")
writeFileSync(join(root, 'docs/other.md'), '# Who calls?\n')
afterAll(() => {
  rmSync(root, { recursive: true })
})

const missing = (text: string, path = 'docs/page.md'): string[] =>
  missingIn(
    { path, text },
    { root, scripts: new Set(['test', 'test:real']), read: () => '# Who calls?\n```sh\n# no heading\n```\n' },
  )

test.each([
  ['a path in code font', '`src/http/gone.ts`', 'src/http/gone.ts'],
  ['a path that leaves out src', '`http/form.ts`', 'http/form.ts'],
  ['a folder', '`src/gone/`', 'src/gone/'],
  ['a link', '[page](gone.md)', 'gone.md'],
  ['a link to a heading', '[page](other.md#who-asks)', 'other.md#who-asks'],
  ['a link to a line of a block', '[page](other.md#no-heading)', 'other.md#no-heading'],
  ['an npm script', '`npm run bench`', 'npm run bench'],
  ['a test', '`test/here.test.ts`: "refuses all"', 'test/here.test.ts: "refuses all"'],
])('the docs check finds %s that does not exist', (_, text, name) => {
  expect(missing(text)).toEqual([`docs/page.md: ${name}`])
})

test.each([
  ['`src/http/form.ts` and `src/http/`'],
  ['[page](other.md#who-calls), [web](https://example.com/gone)'],
  ['# Here\n[up](#here)'],
  ['`npm run test:real`'],
  ['`test/here.test.ts`: "refuses"; `test/here.test.ts`: "in a table"'],
  ['`providers/yours.yaml` in a configuration folder'],
  ['```sh\ncat src/gone.ts\n```'],
])('the docs check passes %j', (text) => {
  expect(missing(text)).toEqual([])
})

test('the docs check finds folders that a picture names wrongly, and folders that the architecture page leaves out', () => {
  expect(missing('<text>src/gone</text><text>src/http</text>', 'docs/a.svg')).toEqual(['docs/a.svg: src/gone'])
  expect(unnamedFolders('`src/http/`', ['http', 'store'])).toEqual(['store'])
})
