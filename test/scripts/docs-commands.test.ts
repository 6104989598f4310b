import { Command } from 'commander'
import { expect, test } from 'vitest'
import { adviceIn, commandsIn, problemOf } from '../../scripts/docs-commands.ts'

const program = new Command('deputy').option('-V, --version')
program.command('check').option('--online')
program.command('revoke').option('--user <sub>').option('--reason <text>')
program.command('explain').argument('<id>')
const audit = program.command('audit')
audit.command('verify').argument('[file]')

const problems = (text: string): string[] =>
  commandsIn(text)
    .map((named) => problemOf(program, named))
    .filter((problem) => problem !== undefined)

const block = (commands: string): string => `\`\`\`sh\n${commands}\n\`\`\`\n`

test.each([
  ['a command', block('deputy chek'), 'there is no command chek'],
  ['a command of a group', '`deputy audit list`', 'there is no command audit list'],
  ['an option', '`deputy check --offline`', 'check has no option --offline'],
  ['an option in the second line', block('deputy revoke \\\n  --tenat acme'), 'revoke has no option --tenat'],
  [
    'a command as another user',
    block('sudo -u deputy node /usr/lib/deputy/dist/cli/main.js chek'),
    'there is no command chek',
  ],
  ['a command whose output is taken', block('ID=$(deputy chek)'), 'there is no command chek'],
  ['an argument that is missing', block('deputy explain | less'), 'explain lacks an argument'],
  ['a group by itself', block('cd x && deputy audit'), 'audit lacks its last word'],
  ['a word too many', block('deputy check all # online'), 'check all has a word too many'],
])('the docs check finds in a page %s', (_, text, problem) => {
  expect(problems(text)).toEqual([problem])
})

test.each([
  [block('deputy revoke --user alice --reason "left; the company"  # at once')],
  [block('sudo install -g deputy -m 0600 kek /var/lib/deputy/kek')],
  [block('deputy audit verify <file> > out.txt')],
  [block('# deputy chek was the name before')],
  ['`deputy --home /etc/deputy check`, `deputy audit …`, `deputy explain`, `deputy check|explain`'],
  ['the deputy chek'],
])('the docs check takes %s', (text) => {
  expect(problems(text)).toEqual([])
})

test('the docs check finds the advice of a source', () => {
  const advice = adviceIn(
    "next: 'deputy audit list', say(`Next: deputy explain ${id}`), 'deputy is ready'",
    new Set(['audit', 'explain']),
  )
  expect(advice.map(({ line }) => line)).toEqual(['audit list', 'explain X'])
  expect(problemOf(program, advice[0]!)).toBe('there is no command audit list')
})
