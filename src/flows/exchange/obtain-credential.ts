import { type CredentialRequest, kinds } from '#credentials/connector'
import { DeputyError, refuse } from '#errors'
import type { CheckoutProcess } from '#flows/rotation'
import { assertNotRevoked } from '#identity/validity'
import type { ExecSession } from '#identity/workload'
import { confirmationFor } from './confirmation.ts'
import { dependenciesOf, type ExchangeDependencies, type Note, type Proved } from './context.ts'
import type { Obtained } from './obtain.ts'
import { idsOf } from './target.ts'

/** How many versions of a secret may replace each other while one is handed out. */
const MAX_VERSIONS = 3

/** How a request is refused whose user has no grant, or none that is good. */
const GRANT_GONE: readonly string[] = ['interaction_required', 'reconnect_required']

type Allowed = Omit<Proved, 'obtained'>

/** Under which name a session has secrets that rotate. */
export const holderOf = ({ id }: Pick<ExecSession, 'id'>): string => `exec ${id}`

/** The process that is written down as having a secret that rotates; undefined where the kernel does not say which it is. */
const processOf = ({ context: { holder }, caller: { workload } }: Allowed): string | undefined => {
  const { peer, session } = workload
  if (holder !== undefined) return holder
  if (session !== undefined) return holderOf(session)
  return peer?.startedAt === undefined ? undefined : `${peer.pid} ${peer.startedAt}`
}

/** What the connector is asked for: what was proved, and nothing else of the request. */
const requestOf = (deps: ExchangeDependencies, allowed: Allowed): CredentialRequest => {
  const { context, caller, beneficiary, authorized } = allowed
  const { principal, subject, subjectToken, notAfter } = beneficiary
  const { target, scopes } = authorized
  const tenant = deps.snapshot().tenants.get(principal.tenant)
  if (tenant === undefined) throw refuse('subject_tenant_unknown')
  const [downstream, ...others] = target.downstreams
  const confirmation = confirmationFor(target, caller.workload.server, caller.proved)
  const { requestedTokenType, tool, rejected } = context.wish
  return {
    principal,
    tenant,
    server: caller.workload.server,
    downstream,
    ...(others.length === 0 ? {} : { others }),
    scopes,
    notAfter,
    audiences: target.audiences,
    priorActors: subject?.actors ?? [],
    ancestors: subject === undefined ? [] : [subject.tokenId, ...subject.ancestors],
    correlationId: context.origin.correlationId,
    ...(confirmation === undefined ? {} : { confirmation }),
    ...(requestedTokenType === undefined ? {} : { requestedTokenType }),
    ...(tool === undefined ? {} : { tool }),
    ...(rejected === undefined ? {} : { rejected: { token: rejected } }),
    // Only kinds with `fromSubjectToken` receive the user's token (threat 18).
    ...(subjectToken === undefined || !kinds[target.kind].fromSubjectToken ? {} : { subjectToken }),
  }
}

/** Hands out a version of a rotating secret once its checkout is recorded; a version that was replaced meanwhile gives way to the next. */
const obtainCheckedOut = async (
  deps: ExchangeDependencies,
  request: CredentialRequest,
  who: Who,
): Promise<Obtained> => {
  for (let attempt = 1; attempt <= MAX_VERSIONS; attempt += 1) {
    const obtained = await deps.obtain(request, who.generation)
    const { checkout, expiresAt } = obtained.credential
    if (checkout === undefined || (await deps.checkOut(checkout, who.holder, expiresAt))) return obtained
  }
  throw refuse('rotation_in_progress', {
    tenant: request.principal.tenant,
    secret: request.downstream.downstream,
    seconds: 1,
  })
}
interface Who {
  readonly holder: CheckoutProcess
  readonly generation: number
}

/** A grant that is gone may be revoked by what this node is only about to hear of: then that is the reason. */
const revokedRather = async (deps: ExchangeDependencies, allowed: Allowed, thrown: unknown): Promise<never> => {
  if (thrown instanceof DeputyError && GRANT_GONE.includes(thrown.code)) {
    await deps.membership.catchUp()
    assertNotRevoked(dependenciesOf({ ...allowed, target: allowed.authorized.target }), deps)
  }
  throw thrown
}

/**
 * Step 4: the credential, out of the cache or from the connector of its kind.
 * @throws DeputyError `interaction_required` and its kin, those of providers and of secrets, `rotation_in_progress`
 */
export const obtainCredential = async (deps: ExchangeDependencies, allowed: Allowed, note: Note): Promise<Obtained> => {
  const { caller, beneficiary, authorized } = allowed
  const { principal } = beneficiary
  const { server, session } = caller.workload
  const { generation } = deps.snapshot()
  const request = requestOf(deps, allowed)
  const user = principal.kind === 'user' ? principal.user : null
  const holder = { server: server.server, user, process: processOf(allowed) }
  const obtained = await deps.telemetry.span(
    'deputy.obtain',
    { 'deputy.downstream': idsOf(authorized.target).join(' ') },
    () =>
      obtainCheckedOut(deps, request, { holder, generation }).catch((error: unknown) =>
        revokedRather(deps, allowed, error),
      ),
  )
  const { credential, cached } = obtained
  note({ credential, cached })
  if (kinds[authorized.target.kind].leased === true && credential.grant !== undefined)
    deps.exec.leased(credential.grant, session)
  deps.telemetry.cache({ outcome: cached ? 'hit' : 'miss' })
  return obtained
}
