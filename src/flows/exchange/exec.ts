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
  /** The token of this child's session before the daemon restarted: the child may have it in its environment. */
  readonly resume?: Secret
  readonly notify: (event: ExecEvent) => void
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

type ExecBeginDependencies = ValidityDependencies &
  WithAuditDependencies &
  Pick<ExchangeDependencies, 'subjects'> & {
    readonly sessions: ExecSessions
    readonly liveSessions: LiveSessionMonitor
  }

/** What a session will act for, and what its server's file maps to it. */
interface ExecPrincipal {
  readonly dependsOn: Omit<CredentialDependencies, 'since'> & { since?: number }
  readonly mapping: ExecMapping
  readonly warning: string | undefined
}

/** The user of the calling Unix user's login session, or the server itself. @throws DeputyError `exec_not_registered`, `workload_not_approved`, those of sessions */
const principalOf = async (deps: ExecBeginDependencies, { caller, server: id }: ExecOrder): Promise<ExecPrincipal> => {
  const snapshot = deps.snapshot()
  const server = registryOf(snapshot).byId(id)
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
      dependsOn: { tenant: ownTenant(server, snapshot), server: id, downstreams: [], tokens: [] },
    }
  const { tenant, user, tokenId, earliestIssue } = await deps.subjects.fromSession({ uid: caller.uid, server })
  const dependsOn = {
    tenant: tenant.tenant,
    user,
    server: id,
    downstreams: [],
    tokens: [tokenId],
    since: earliestIssue,
  }
  assertValid(dependsOn, deps)
  return { mapping, warning, dependsOn }
}

/** A session that has begun. */
interface Started {
  readonly session: ExecSession
  readonly token: Secret
  readonly dependsOn: CredentialDependencies
  /** From now on the session ends as soon as anything that it depends on has ended. @throws DeputyError where that was already so */
  watch(): void
}

/** Begins the session of the child. @throws DeputyError `exec_not_child`, `rate_limited`, `malformed_request` */
const start = (deps: ExecBeginDependencies, order: ExecOrder, { dependsOn: found }: ExecPrincipal): Started => {
  const { caller, pid, server, resume, notify } = order
  let forget = (): void => undefined
  const { session, token } = deps.sessions.begin({
    caller,
    pid,
    server,
    tenant: found.tenant,
    user: found.user,
    notify: (event) => {
      if (event.event === 'ended') forget()
      notify(event)
    },
    ...(resume === undefined ? {} : { resume }),
  })
  const dependsOn = { since: session.since, ...found }
  return {
    session,
    token,
    dependsOn,
    watch() {
      forget = deps.liveSessions.add({
        dependsOn,
        end: (error) => {
          deps.sessions.end(session, error)
        },
      })
    },
  }
}

/**
 * The line of `deputy exec`: the Unix user may start the server, the server is approved, it acts for a signed-in user or for
 * itself, the process is a child of the caller, the record is durable, the token leaves. The daemon never learns which command
 * runs, or with which arguments (threat 3).
 */
export const createExecBegin =
  (deps: ExecBeginDependencies) =>
  async (order: ExecOrder): Promise<BegunExec> => {
    const { server, resume } = order
    let started: Started | undefined
    return withAudit(deps, {
      async steps() {
        const principal = await principalOf(deps, order)
        started = start(deps, order, principal)
        started.watch()
        const { session, token } = started
        return {
          session,
          token,
          mapping: principal.mapping,
          ...(principal.warning === undefined ? {} : { warning: principal.warning }),
          end: () => {
            deps.sessions.end(session)
          },
        }
      },
      issued: ({ session }) =>
        recordOf(order, { dependsOn: started?.dependsOn, session, resumed: resume !== undefined }),
      refused: (error) => recordOf(order, { error, dependsOn: started?.dependsOn }),
      // The monitor of live sessions ends the session as soon as anything that it depends on has ended.
      assertValid: ({ session }) => {
        if (!deps.sessions.isLive(session)) throw refuse('exec_session_over', { server, problem: 'it ended meanwhile' })
      },
      ended: (error) => {
        if (started !== undefined && error !== undefined) deps.sessions.end(started.session, error)
      },
    })
  }
export type BeginExec = ReturnType<typeof createExecBegin>
