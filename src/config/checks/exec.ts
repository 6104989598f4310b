import type { Problem } from '../problem.ts'
import type { Server } from '../server.ts'
import type { Located } from '../yaml-file.ts'
import { problemsOf } from './names.ts'

/** The credentials that `deputy exec` hands to the server: the server must be registered for each, on behalf of the same subject. */
export const checkExec = (located: Located<Server>): Problem[] => {
  const { exec, attest, login_session: hasSession, ...uses } = located.value
  if (exec === undefined) return []
  const problem = problemsOf(located)
  const problems: Problem[] = []
  const use = exec.on_behalf_of === 'session' ? 'downstreams' : 'service_downstreams'
  if (exec.on_behalf_of === 'session' && !hasSession)
    problems.push(
      problem(
        ['exec'],
        "The server is started on behalf of the Unix user's session, and login_session does not allow it to use one.",
        'Write login_session: true, or exec.on_behalf_of: server.',
      ),
    )
  if (!attest.some((way) => 'exec' in way))
    problems.push(
      problem(
        ['exec'],
        'No Unix user may start the server with `deputy exec`.',
        'Add attest: [{ exec: { uid: 1000 } }] with the Unix user who may.',
      ),
    )
  for (const kind of ['env', 'files'] as const)
    for (const [name, { downstream, scopes = [] }] of Object.entries(exec[kind])) {
      const registered = Object.hasOwn(uses[use], downstream) ? uses[use][downstream] : undefined
      if (registered === undefined)
        problems.push(
          problem(
            ['exec', kind, name, 'downstream'],
            `${name} is of ${downstream}, for which the server is not registered under \`${use}\`.`,
            `Add ${downstream} to \`${use}\` of this server.`,
          ),
        )
      for (const scope of scopes.filter((each) => registered?.scopes.includes(each) === false))
        problems.push(
          problem(
            ['exec', kind, name, 'scopes'],
            `${name} needs ${scope}, for which the server is not registered at ${downstream}.`,
            `Add ${scope} to ${use}.${downstream}.scopes.`,
          ),
        )
    }
  return problems
}
