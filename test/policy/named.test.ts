import { describe, expect, it } from 'vitest'
import { formatProblem } from '../../src/config/problem.ts'
import { readFolder } from '../support/check.ts'

const FILE = 'policies/access/own.cedar'
const read = async (text: string, more: Record<string, object> = {}) => {
  const { problems, warnings } = await readFolder({ [FILE]: text, ...more })
  const told = (of: typeof problems) => of.filter(({ file }) => file === FILE).map(formatProblem)
  return { problems: told(problems), warnings: told(warnings) }
}

describe('fault 28: names in access policies', () => {
  it.each([
    [
      'forbid (principal, action, resource == Deputy::Downstream::"ledgr");',
      /own\.cedar:1:40: There is no downstream ledgr.*\n.*\n *Did you mean 'ledger'\?/,
    ],
    [
      'permit (principal == Deputy::Workload::"notse", action, resource);',
      /There is no server notse.*\n.*\n *Did you mean 'notes'\?/,
    ],
    [
      'permit (principal in Deputy::Tenant::"acne", action, resource);',
      /There is no tenant acne.*\n.*\n *Did you mean 'acme'\?/,
    ],
    [
      'permit (principal in Deputy::Group::"engineering", action, resource);',
      /The group engineering has no tenant before it.*\n.*\n *Write Deputy::Group::"TENANT\/engineering"/,
    ],
    [
      'permit (principal in Deputy::Group::"acne/engineering", action, resource);',
      /There is no tenant of the group acne\/engineering, acne/,
    ],
    [
      'permit (principal in Deputy::Group::"acme//sales", action, resource);',
      /No group begins with a slash.*\n.*\n *Write Deputy::Group::"acme\/sales"/,
    ],
    [
      '// first\npermit (principal is Deputy::User, action, resource)\nwhen { context.workload in Deputy::Team::"finance" };',
      /own\.cedar:3:28: There is no team of a server finance/,
    ],
  ])('%s', async (text, words) => {
    const { problems, warnings } = await read(text)
    expect(problems).toEqual([])
    expect(warnings).toEqual([expect.stringMatching(words)])
  })

  it('of another environment exist', async () => {
    const { warnings } = await read('forbid (principal, action, resource == Deputy::Downstream::"staging-only");', {
      'downstreams/staging.yaml': {
        downstream: 'staging-only',
        credential: 'minted',
        resource: 'https://s.example',
        environment: 'staging',
      },
    })
    expect(warnings).toEqual([])
  })

  it('policies that never apply, and one that forbids everything, are warned of', async () => {
    expect(
      (await read('permit (principal, action, resource) when { principal is Deputy::Downstream };')).warnings,
    ).toEqual([expect.stringMatching(/own\.cedar:1:1: The policy never applies/)])
    expect((await read('forbid (principal, action, resource);')).warnings).toEqual([
      expect.stringMatching(/own\.cedar:1:1: The policy forbids everything to everybody/),
    ])
  })

  it('one mistake is one problem, with line, column and excerpt', async () => {
    const { problems } = await read(
      '// a\npermit (principal, action, resource)\nwhen { context.enviroment == "test" };\n',
    )
    expect(problems).toEqual([
      `${FILE}:3:8: The context has no attribute enviroment.\n    | when { context.enviroment == "test" };\n    Did you mean 'environment'?`,
    ])
    expect(
      (await read('permit (principal, action, resource) when { context.scopes.containz("a") };')).problems,
    ).toEqual([expect.stringMatching(/own\.cedar:1:\d+: `containz` is not a valid method/i)])
    expect((await read('permit (principal, action == Deputy::Action::"mintd", resource);')).problems).toHaveLength(1)
  })
})
