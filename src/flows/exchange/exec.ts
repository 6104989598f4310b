import { type ExecMapping, execSchema } from '#config'
import { asDeputyError, type DeputyError, refuse } from '#errors'
import type { AuditLog } from '#foundation/audit'
import type { Secret } from '#foundation/crypto'
import { assertValid, type LastingUses, type Reliance, type ValidityDependencies } from '#identity/validity'
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
import { ownTenant, type ExchangeDependencies } from './exchange.ts'

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

/**
 * The line of `deputy exec`: the Unix user may start the server, the server is approved, there is somebody for whom it acts,
 * the process is a child of the caller, the record is durable, the token leaves. What is run, and with what, the daemon is
 * never told (threat 3).
 */
export const createExecBegin = (
  deps: ValidityDependencies &
    Pick<ExchangeDependencies, 'subjects'> & {
      readonly sessions: ExecSessions
      readonly lasting: LastingUses
      readonly audit: AuditLog
    },
) => {
  const { snapshot, sessions } = deps

  const principalOf = async ({
    caller,
    server: id,
  }: ExecOrder): Promise<{
    reliance: Omit<Reliance, 'since'> & { since?: number }
    mapping: ExecMapping
    warning: string | undefined
  }> => {
    const current = snapshot()
    const server = registryOf(current).byId(id)
    // Whether there is such a server is nobody's business who may not start it.
    if (server === undefined || !mayExec(server, caller.uid))
      throw refuse('exec_not_registered', { server: id, uid: caller.uid })
    const mapping = server.exec ?? execSchema.parse({})
    const warning = warningOf(server)
    assertApproved(server)
    if (mapping.on_behalf_of === 'server')
      return {
        mapping,
        warning,
        reliance: { tenant: ownTenant(server, current), server: id, downstreams: [], tokens: [] },
      }
    const {
      tenant: { tenant },
      user,
      tokenId,
      earliestIssue,
    } = await deps.subjects.fromSession({ uid: caller.uid, server })
    const reliance = { tenant, user, server: id, downstreams: [], tokens: [tokenId], since: earliestIssue }
    assertValid(reliance, deps)
    return { mapping, warning, reliance }
  }

  const record = (
    { correlationId, caller, server, pid }: ExecOrder,
    more: {
      reliance?: Pick<Reliance, 'tenant' | 'user'>
      session?: ExecSession
      resumed?: boolean
      error?: DeputyError
    },
  ): Promise<void> =>
    deps.audit.append({
      id: correlationId,
      event: 'exec.begin',
      outcome: more.error === undefined ? 'done' : 'refused',
      server,
      ...(more.reliance === undefined ? {} : { tenant: more.reliance.tenant }),
      ...(more.reliance?.user === undefined ? {} : { user: more.reliance.user }),
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

  return async (order: ExecOrder): Promise<BegunExec> => {
    let session: ExecSession | undefined
    let reliance: Reliance | undefined
    let forget = (): void => undefined
    try {
      const found = await principalOf(order)
      const { caller, pid, server, resume, tell } = order
      const { tenant, user } = found.reliance
      const begun = sessions.begin({
        caller,
        pid,
        server,
        tenant,
        user,
        tell: (event) => {
          if (event.event === 'ended') forget()
          tell(event)
        },
        ...(resume === undefined ? {} : { resume }),
      })
      session = begun.session
      reliance = { since: session.since, ...found.reliance }
      const ending = session
      forget = deps.lasting.add({
        reliance,
        end: (error) => {
          sessions.end(ending, error)
        },
      })
      await record(order, { reliance, session, resumed: resume !== undefined })
      if (!sessions.isLive(session)) throw refuse('exec_session_over', { server, problem: 'it ended meanwhile' })
      return {
        ...begun,
        mapping: found.mapping,
        ...(found.warning === undefined ? {} : { warning: found.warning }),
        end: () => {
          sessions.end(ending)
        },
      }
    } catch (thrown) {
      const error = asDeputyError(thrown)
      if (session !== undefined) sessions.end(session, error)
      if (error.code !== 'audit_unavailable')
        await record(order, { error, ...(reliance === undefined ? {} : { reliance }) })
      throw error
    }
  }
}
export type BeginExec = ReturnType<typeof createExecBegin>
