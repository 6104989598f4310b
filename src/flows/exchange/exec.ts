import { type ExecMapping, execSchema } from '#config'
import { type DeputyError, refuse } from '#errors'
import type { AuditRecord } from '#foundation/audit'
import type { Secret } from '#foundation/crypto'
import {
  assertValid,
  type LiveSessionMonitor,
  type CredentialDependencies,
  type ValidityDependencies,
} from '#identity/validity'
import {
  assertApproved,
  type ExecEvent,
  type ExecSession,
  type ExecSessions,
  mayExec,
  type PeerProcess,
  registryOf,
  warningOf,
} from '#identity/workload'
import type { ExchangeDependencies } from './context.ts'
import { ownTenant } from './verify-subject.ts'
import { withAudit, type WithAuditDependencies } from './with-audit.ts'

export interface ExecOrder {
  readonly correlationId: string
  /** The calling process; it is the parent of the one that was started. */
  readonly caller: PeerProcess
  readonly server: string
  readonly pid: number
  /** The token of this child's session before the daemon was started anew: the child may have it in its environment. */
  readonly resume?: Secret
  readonly tell: (event: ExecEvent) => void
}

export interface BegunExec {
  readonly session: ExecSession
  readonly token: Secret
  readonly mapping: ExecMapping
  readonly warning?: string
  end(): void
}

/** What the audit record says of a session that begins, or does not. */
const recordOf = (
  { correlationId, caller, server, pid }: ExecOrder,
  more: {
    dependsOn: Pick<CredentialDependencies, 'tenant' | 'user'> | undefined
    session?: ExecSession
    resumed?: boolean
    error?: DeputyError
  },
): AuditRecord => ({
  id: correlationId,
  event: 'exec.begin',
  outcome: more.error === undefined ? 'done' : 'refused',
  server,
  ...(more.dependsOn === undefined ? {} : { tenant: more.dependsOn.tenant }),
  ...(more.dependsOn?.user === undefined ? {} : { user: more.dependsOn.user }),
  detail: {
    attestation: { uid: caller.uid, gid: caller.gid, pid: caller.pid, exe: caller.exe },
    child: pid,
    session: more.session?.id,
    resumed: more.resumed,
    error:
      more.error === undefined
        ? undefined
        : { code: more.error.code, message: more.error.message, next: more.error.next, facts: more.error.facts },
  },
})

/**
 * The line of `deputy exec`: the Unix user may start the server, the server is approved, it acts for a signed-in user or for
 * itself, the process is a child of the caller, the record is durable, the token leaves. The daemon never learns what is run,
 * or with which arguments (threat 3).
 */
export const createExecBegin = (
  deps: ValidityDependencies &
    WithAuditDependencies &
    Pick<ExchangeDependencies, 'subjects'> & {
      readonly sessions: ExecSessions
      readonly liveSessions: LiveSessionMonitor
    },
) => {
  const { snapshot, sessions } = deps

  const principalOf = async ({
    caller,
    server: id,
  }: ExecOrder): Promise<{
    dependsOn: Omit<CredentialDependencies, 'since'> & { since?: number }
    mapping: ExecMapping
    warning: string | undefined
  }> => {
    const current = snapshot()
    const server = registryOf(current).byId(id)
    // A Unix user who may not start a server does not learn whether it exists.
    if (server === undefined || !mayExec(server, caller.uid))
      throw refuse('exec_not_registered', { server: id, uid: caller.uid })
    const mapping = server.exec ?? execSchema.parse({})
    const warning = warningOf(server)
    assertApproved(server)
    if (mapping.on_behalf_of === 'server')
      return {
        mapping,
        warning,
        dependsOn: { tenant: ownTenant(server, current), server: id, downstreams: [], tokens: [] },
      }
    const {
      tenant: { tenant },
      user,
      tokenId,
      earliestIssue,
    } = await deps.subjects.fromSession({ uid: caller.uid, server })
    const dependsOn = { tenant, user, server: id, downstreams: [], tokens: [tokenId], since: earliestIssue }
    assertValid(dependsOn, deps)
    return { mapping, warning, dependsOn }
  }

  return async (order: ExecOrder): Promise<BegunExec> => {
    const { caller, pid, server, resume, tell } = order
    let begun: ReturnType<ExecSessions['begin']> | undefined
    let dependsOn: CredentialDependencies | undefined
    let forget = (): void => undefined
    return withAudit(deps, {
      async steps() {
        const found = await principalOf(order)
        const { session } = (begun = sessions.begin({
          caller,
          pid,
          server,
          tenant: found.dependsOn.tenant,
          user: found.dependsOn.user,
          tell: (event) => {
            if (event.event === 'ended') forget()
            tell(event)
          },
          ...(resume === undefined ? {} : { resume }),
        }))
        dependsOn = { since: session.since, ...found.dependsOn }
        forget = deps.liveSessions.add({
          dependsOn,
          end: (error) => {
            sessions.end(session, error)
          },
        })
        return {
          ...begun,
          mapping: found.mapping,
          ...(found.warning === undefined ? {} : { warning: found.warning }),
          end: () => {
            sessions.end(session)
          },
        }
      },
      issued: ({ session }) => recordOf(order, { dependsOn, session, resumed: resume !== undefined }),
      refused: (error) => recordOf(order, { error, dependsOn }),
      // `lasting` ends the session as soon as anything that it relies on has ended.
      assertValid: ({ session }) => {
        if (!sessions.isLive(session)) throw refuse('exec_session_over', { server, problem: 'it ended meanwhile' })
      },
      ended: (error) => {
        if (begun !== undefined && error !== undefined) sessions.end(begun.session, error)
      },
    })
  }
}
export type BeginExec = ReturnType<typeof createExecBegin>
